"""What the authors' tensors are called, and what they are called here.

Nothing but text. The reference's names follow its Python attributes (``ocr.ocr_distri_head.…``), ours
follow the paper's parts; the order and shapes within each layer are the same, so that renaming is all there is to do.
"""

__all__ = ["TRUNKS", "our_name"]

TRUNKS = ("backbone.", "trunk.")
"""What the reference's backbone is called: its DeeperLab says trunk, everything else backbone."""

_SEGMENTER = "segmenter."

# timm calls the stem's layers by name, the reference by number; everything behind the stem has equal names.
_BACKBONE = {
    "timm": {"layer0.0": "body.conv1", "layer0.1": "body.bn1", "": "body"},
    "inhouse": {"": ""},
}

_CONTEXT = "ocr.ocr_distri_head.object_context_block"
_OCR = {
    "ocr.conv3x3_ocr.0": "pixels.0",
    "ocr.conv3x3_ocr.1.0": "pixels.1",
    "ocr.aux_head.0": "auxiliary.0",
    "ocr.aux_head.1.0": "auxiliary.1",
    "ocr.aux_head.2": "auxiliary.3",
    "ocr.cls_head": "classifier",
    "ocr.ocr_distri_head.conv_bn_dropout.0": "join.0",
    "ocr.ocr_distri_head.conv_bn_dropout.1.0": "join.1",
    f"{_CONTEXT}.f_down.0": "attention.value.0",
    f"{_CONTEXT}.f_down.1.0": "attention.value.1",
    f"{_CONTEXT}.f_up.0": "attention.out.0",
    f"{_CONTEXT}.f_up.1.0": "attention.out.1",
} | {
    f"{_CONTEXT}.{theirs}.{layer}": f"attention.{ours}.{place}"
    for theirs, ours in (("f_pixel", "query"), ("f_object", "key"))
    for layer, place in (("0", "0.0"), ("1.0", "0.1"), ("2", "1.0"), ("3.0", "1.1"))
}

# The pyramid, or the dense prediction cell in its place, whose branches have letters.
_ASPP = {"aspp.img_conv": "aspp.image", "aspp.features": "aspp.branches"} | {
    f"aspp.{letter}": f"aspp.branches.{place}" for place, letter in enumerate("abcde")
}

_DECODERS = {
    "ocr": _OCR,
    "deeplabv3plus": _ASPP
    | {
        "bot_fine": "fine",
        "bot_aspp": "bottleneck",
        "final.0": "head.0.0",
        "final.1": "head.0.1",
        "final.3": "head.1.0",
        "final.4": "head.1.1",
        "final.6": "classifier",
    },
    "deeperlab": _ASPP
    | {
        "conv_up1": "bottleneck",
        "convs4": "fine.0",
        "convs2": "fine.1",
        "conv_up2.conv": "joins.0.0",
        "conv_up2.bn": "joins.0.1",
        "conv_up3.conv": "joins.1.0",
        "conv_up3.bn": "joins.1.1",
        "conv_up5": "classifier",
    },
}

# The reference builds this head in two ways: with layers by name, and as a plain sequence, whose places are ours.
_ATTENTION = {"conv0": "0", "bn0": "1", "conv1": "3", "bn1": "4", "conv2": "6", "": ""}


def our_name(key: str, timm: bool, decoder: str, attention: str | None) -> str | None:
    """The name of a reference's tensor in a network of ours, or None where it fits nowhere.

    Args:
        key: the reference's, without ``module.``.
        timm: the backbone is one of timm's rather than one of ours.
        decoder: ``ocr``, ``deeplabv3plus`` or ``deeperlab``.
        attention: where the model keeps the attention head: ``segmenter.attention``, ``head``, or None without one.

    Example:
        >>> our_name("ocr.cls_head.bias", timm=True, decoder="ocr", attention=None)
        'segmenter.decoder.classifier.bias'
        >>> our_name("scale_attn.bn0.weight", timm=True, decoder="ocr", attention="segmenter.attention")
        'segmenter.attention.1.weight'
    """
    for trunk in TRUNKS:
        if key.startswith(trunk):
            name = _renamed(key.removeprefix(trunk), _BACKBONE["timm" if timm else "inhouse"])
            return None if name is None else f"{_SEGMENTER}backbone.{name}"
    if key.startswith("scale_attn."):
        name = _renamed(key.removeprefix("scale_attn."), _ATTENTION)
        return None if name is None or attention is None else f"{attention}.{name}"
    name = _renamed(key, _DECODERS[decoder])
    return None if name is None else f"{_SEGMENTER}decoder.{name}"


def _renamed(key: str, table: dict[str, str]) -> str | None:
    """``key`` with the longest beginning that the table holds replaced; the empty beginning stands for all others."""
    parts = key.split(".")
    for length in range(len(parts) - 1, -1, -1):
        ours = table.get(".".join(parts[:length]))
        if ours is not None:
            return ".".join([*([ours] if ours else []), *parts[length:]])
    return None
