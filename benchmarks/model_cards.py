"""Writes ``docs/models/README.md``: what the published networks, and the small one, cost.

FLOPs and memory are counted without computing, on PyTorch's meta device, for images of 1024 x 2048 with exact fusion; a
multiply-add counts as two. Memory is that of the tensors that live at once, in float32, the weights among them; what
a GPU's allocator takes for the same is measured with ``--gpu``.
"""

import argparse
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from cost import LiveMemory
from record import save, show
from torch.utils.flop_counter import FlopCounterMode

from polyscale.config import validate
from polyscale.files import write_atomically
from polyscale.models import ModelConfig, build_model
from polyscale.multiscale import MultiScale

PAGE = Path(__file__).parents[1] / "docs" / "models" / "README.md"
SIZE = (1024, 2048)
SCALE_SETS = ((1.0,), (0.5, 1.0), (0.5, 1.0, 2.0), (0.25, 0.5, 1.0, 2.0))
NUM_CLASSES = 19

# name: (backbone, decoder, width of the attention head, where it comes from)
NETWORKS: dict[str, tuple[dict[str, Any], dict[str, Any], int, str]] = {
    "HRNet-W48, OCR": (
        {"name": "hrnet_w48"},
        {"kind": "ocr"},
        256,
        "the network of the published Cityscapes and Mapillary scores",
    ),
    "ResNet-50, DeepLabV3+": (
        {"name": "resnet50", "output_stride": 8, "dilate_first_blocks": True},
        {"kind": "deeplabv3plus"},
        256,
        "the network of the article's Table 3",
    ),
    "WideResNet-38, DeepLabV3+": (
        {"name": "wide_resnet38"},
        {"kind": "deeplabv3plus", "fine_stride": 2},
        256,
        "one of the article's other backbones; fine map at stride 2",
    ),
    "Xception-71, DeepLabV3+": (
        {"name": "aligned_xception71"},
        {"kind": "deeplabv3plus", "fine_stride": 2},
        256,
        "one of the article's other backbones; fine map at stride 2",
    ),
    "EfficientNet-Lite0, light": (
        {"name": "tf_efficientnet_lite0"},
        {"kind": "light"},
        48,
        "for a CPU, as in configs/folder.yaml",
    ),
}


def network(name: str, device: str) -> MultiScale:
    """One of ``NETWORKS`` with random weights, hierarchical, in evaluation mode."""
    backbone, decoder, width, _ = NETWORKS[name]
    multiscale = {"method": "hierarchical", "attention": {"channels": width}}
    config = validate(ModelConfig, {"backbone": backbone, "decoder": decoder, "multiscale": multiscale})
    return build_model(config, NUM_CLASSES).eval().to(device)


def flops(model: MultiScale, scales: tuple[float, ...], size: tuple[int, int] = SIZE) -> int:
    """Multiply-adds times two of one image, for a model on the meta device."""
    device = next(model.parameters()).device
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, *size, device=device), scales)
    return int(counter.get_total_flops())


def live_memory(model: MultiScale, scales: tuple[float, ...]) -> int:
    """Bytes of the tensors that live at once while one image is looked at, for a model on the meta device."""
    image = torch.zeros(1, 3, *SIZE, device="meta")
    with torch.no_grad(), LiveMemory() as memory:
        model(image, scales)
    return memory.peak + _bytes(model.state_dict().values()) + image.nbytes


def training_memory(name: str) -> int:
    """The same of one training step on two images, without the loss, with gradients and SGD's momentum."""
    model = network(name, "meta").train()
    images = torch.zeros(2, 3, *SIZE, device="meta")
    with LiveMemory() as memory:
        fused = model(images, model.train_scales)
        outputs = [fused.logits, fused.aux, *(view.logits for view in fused.views.values())]
        torch.stack([output.sum() for output in outputs if output is not None]).sum().backward()
    momentum = _bytes(model.parameters())
    return memory.peak + _bytes(model.state_dict().values()) + momentum + images.nbytes


def _bytes(tensors: Iterable[torch.Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def gpu_memory(name: str, scales: tuple[float, ...]) -> int:
    """Bytes that one image takes at most on a GPU, weights included, float32."""
    model = network(name, "cuda")
    image = torch.zeros(1, 3, *SIZE, device="cuda")
    torch.cuda.reset_peak_memory_stats()
    with torch.no_grad():
        model(image, scales)
    peak = torch.cuda.max_memory_allocated()
    del model, image
    torch.cuda.empty_cache()
    return peak


def card(name: str, gpu: bool) -> dict[str, Any]:
    """All figures of a network."""
    model = network(name, "meta")
    parameters = sum(parameter.numel() for parameter in model.parameters())
    values: dict[str, Any] = {
        "parameters": parameters,
        "backbone_parameters": sum(p.numel() for k, p in model.named_parameters() if ".backbone." in k),
        "weights_bytes_float32": _bytes(model.state_dict().values()),
        "flops": {str(list(scales)): flops(model, scales) for scales in SCALE_SETS},
        "live_bytes": {str(list(scales)): live_memory(model, scales) for scales in SCALE_SETS},
        "training_live_bytes": training_memory(name),
    }
    if gpu:
        values["peak_gpu_bytes"] = {str(list(scales)): gpu_memory(name, scales) for scales in SCALE_SETS}
    return values


def page(cards: dict[str, dict[str, Any]], gpu: str | None) -> str:
    """The cards as one page."""
    sets = [str(list(scales)) for scales in SCALE_SETS]
    heads = ["(" + ", ".join(f"{scale:g}" for scale in scales) + ")" for scales in SCALE_SETS]
    lines = [
        "# Model cards",
        "",
        "Written by `benchmarks/model_cards.py`; do not edit. What a network costs for one image of",
        f"{SIZE[0]} x {SIZE[1]} pixels and {NUM_CLASSES} classes, hierarchical attention included.",
        "",
        "FLOPs are counted, not measured: convolutions and matrix products, a multiply-add as two, in evaluation with",
        "the published exact fusion. The attention head runs at every scale but the finest, whose attention is never",
        "read, so that a set of scales costs somewhat more than the sum of its scales' squares, which is 1.25 for",
        "(0.5, 1) and 5.25 for (0.5, 1, 2).",
        "",
        "| network | parameters | of them backbone | weights, float32 | "
        + " | ".join(f"FLOPs {h}" for h in heads)
        + " |",
        "|---|---|---|---|" + "---|" * len(heads),
    ]
    for name, values in cards.items():
        numbers = [f"{values['flops'][key] / 1e12:.2f} T" for key in sets]
        millions = [f"{values[key] / 1e6:.1f} M" for key in ("parameters", "backbone_parameters")]
        weights = f"{values['weights_bytes_float32'] / 2**20:.0f} MiB"
        lines.append("| " + " | ".join([name, *millions, weights, *numbers]) + " |")
    lines += [
        "",
        "## Memory",
        "",
        "Of one inference, by scales, and of one training step on two images at (0.5, 1) with gradients and SGD's",
        "momentum but without the loss (RMI adds 5 to 20%, cross entropy 2 to 7%); float32, weights included.",
        "Counted: the tensors that live at once. A device takes more, for its allocator's gaps and its kernels'",
        "workspace.",
        "",
        "| network | " + " | ".join(heads) + " | training |",
        "|---|" + "---|" * len(heads) + "---|",
    ]
    for name, values in cards.items():
        amounts = [*(values["live_bytes"][key] for key in sets), values["training_live_bytes"]]
        lines.append("| " + " | ".join([name, *(f"{amount / 2**30:.1f} GiB" for amount in amounts)]) + " |")
    if gpu is not None:
        lines += [
            "",
            f"What PyTorch's allocator took for the inferences on {gpu}:",
            "",
            "| network | " + " | ".join(heads) + " |",
            "|---|" + "---|" * len(heads),
        ]
        for name, values in cards.items():
            peaks = [f"{values['peak_gpu_bytes'][key] / 2**30:.1f} GiB" for key in sets]
            lines.append("| " + " | ".join([name, *peaks]) + " |")
    lines += ["", "## The networks", ""]
    for name in cards:
        backbone, decoder, width, origin = NETWORKS[name]
        settings = ", ".join(f"{key}: {str(value).lower()}" for key, value in backbone.items())
        heads_of = ", ".join(f"{key}: {value}" for key, value in decoder.items())
        lines.append(
            f"* **{name}**: {origin}. `backbone: {{{settings}}}`, `decoder: {{{heads_of}}}`, "
            f"`multiscale: {{attention: {{channels: {width}}}}}`."
        )
    lines += [
        "",
        "Scores that these networks should reach, and their sources, stand at the head of the recipes in `configs/`.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Count, print, write the page and the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--gpu", action="store_true", help="also measure what an inference takes there")
    parser.add_argument("--out", type=Path, default=PAGE)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", module="torch.utils.flop_counter")
    cards = {name: card(name, arguments.gpu) for name in arguments.networks}
    device = torch.cuda.get_device_name() if arguments.gpu else None
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(arguments.out) as temporary:
        temporary.write_text(page(cards, device), "utf-8")
    rows = [
        [name, f"{values['parameters'] / 1e6:.1f} M", *(f"{count / 1e12:.2f} T" for count in values["flops"].values())]
        for name, values in cards.items()
    ]
    show(
        "parameters, and FLOPs of one image of 1024 x 2048",
        ["network", "parameters", *(str(list(s)) for s in SCALE_SETS)],
        rows,
    )
    print(f"wrote {arguments.out}")
    save("model_cards", {"size": SIZE, "num_classes": NUM_CLASSES, "gpu": device, "networks": cards})


if __name__ == "__main__":
    main()
