"""What a user would take instead, side by side: time, FLOPs and memory of one image, all classes 19.

    python benchmarks/against_others.py [--size 512 1024] [--tiny]

Networks of segmentation-models-pytorch, transformers and torchvision as their documentation calls them (evaluation
mode, ``torch.inference_mode``, logits enlarged to the image's size, argmax), with random weights: no network is needed,
and what they cost does not depend on the weights. Ours are asked as ``predict`` asks them. Each variant runs in a
process of its own, turn and turn about. Variants whose library is missing are left out.

"kept" is the same code with the allocator's setting of the ``polyscale`` command, which any program can make: the
difference between "kept" and the plain row is what our setting brings, not our networks.
"""

import argparse
import json
from collections.abc import Callable
from typing import Any

from processes import measure_here, turn_about
from record import save, show

ENCODER = "timm-tf_efficientnet_lite0"
VARIANTS = {
    "smp FPN": "smp FPN",
    "smp FPN, kept": "smp FPN kept",
    "smp DeepLabV3+": "smp DeepLabV3Plus",
    "smp DeepLabV3+, kept": "smp DeepLabV3Plus kept",
    "smp DeepLabV3+, 3 scales and flips averaged": "smp DeepLabV3Plus averaged kept",
    "torchvision DeepLabV3, MobileNetV3": "torchvision deeplabv3_mobilenet_v3_large kept",
    "torchvision LR-ASPP, MobileNetV3": "torchvision lraspp_mobilenet_v3_large kept",
    "transformers SegFormer-B0": "transformers segformer kept",
    "Polyscale light, one scale": "polyscale light single",
    "Polyscale FPN, one scale": "polyscale fpn single",
    "Polyscale DeepLabV3+, one scale": "polyscale deeplabv3plus single",
    "the same, separable ASPP": "polyscale deeplabv3plus single separable",
    "Polyscale light, attention over 3 scales": "polyscale light hierarchical",
    "Polyscale DeepLabV3+ separable, attention over 3 scales": "polyscale deeplabv3plus hierarchical separable",
}
CLASSES = 19
SCALES = (0.5, 1.0, 2.0)


def others(words: list[str]) -> Callable[[Any], Any]:
    """Logits at the image's size, or probabilities, of a network that is not ours."""
    import torch
    from torch.nn import functional

    library, name = words[:2]
    if library == "smp":
        import segmentation_models_pytorch as smp

        network = getattr(smp, name)(ENCODER, encoder_weights=None, classes=CLASSES).eval()
        logits = network
    elif library == "torchvision":
        from torchvision.models import segmentation

        network = getattr(segmentation, name)(weights=None, weights_backbone=None, num_classes=CLASSES).eval()

        def logits(x: Any) -> Any:
            return network(x)["out"]
    else:
        from transformers import SegformerConfig, SegformerForSemanticSegmentation

        # The defaults of the configuration are those of B0.
        network = SegformerForSemanticSegmentation(SegformerConfig(num_labels=CLASSES)).eval()

        def logits(x: Any) -> Any:
            small = network(x).logits
            return functional.interpolate(small, x.shape[-2:], mode="bilinear", align_corners=False)

    def averaged(x: Any) -> Any:
        total = torch.zeros(())
        for scale in SCALES:
            # Sides that the encoder's stride divides, as smp asks for.
            size = [max(32, round(side * scale / 32) * 32) for side in x.shape[-2:]]
            scaled = functional.interpolate(x, size, mode="bilinear", align_corners=False)
            for mirrored in (False, True):
                seen = logits(scaled.flip(3) if mirrored else scaled)
                seen = functional.interpolate(seen, x.shape[-2:], mode="bilinear", align_corners=False)
                total = total + (seen.flip(3) if mirrored else seen).softmax(1)
        return total / (2 * len(SCALES))

    return averaged if "averaged" in words else logits


def work_of(words: list[str], size: tuple[int, int]) -> tuple[Callable[[], Any], Callable[[], int]]:
    """One image of a variant, and its FLOPs; memory is set up before torch is loaded."""
    if words[0] == "polyscale" or "kept" in words:
        from polyscale.memory import keep_freed_memory

        assert keep_freed_memory()
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    torch.manual_seed(0)
    image = torch.rand(1, 3, *size)
    if words[0] == "polyscale":
        from polyscale.backbones import BackboneConfig
        from polyscale.decoders import DecoderConfig
        from polyscale.looker import Looker
        from polyscale.models import AttentionConfig, ModelConfig, MultiScaleConfig, build_model

        config = ModelConfig(
            backbone=BackboneConfig(name="tf_efficientnet_lite0", pretrained=False),
            decoder=DecoderConfig(kind=words[1], aspp_separable="separable" in words),
            multiscale=MultiScaleConfig(method=words[2], fusion="fast", attention=AttentionConfig(channels=48)),
        )
        looker = Looker(build_model(config, CLASSES))

        def work() -> Any:
            return looker.classify(image)
    else:
        network = others(words)

        def work() -> Any:
            with torch.inference_mode():
                return network(image).argmax(1)

    def flops() -> int:
        with FlopCounterMode(display=False) as counter:
            work()
        return counter.get_total_flops()

    return work, flops


def is_installed(words: list[str]) -> bool:
    """Whether the library of a variant can be imported."""
    from importlib.util import find_spec

    package = {"smp": "segmentation_models_pytorch"}.get(words[0], words[0])
    return find_spec(package) is not None


def main() -> None:
    """Measure, print, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs=2, default=(512, 1024), metavar=("H", "W"))
    parser.add_argument("--rounds", type=int, default=2, help="of all variants, turn and turn about")
    parser.add_argument("--repeats", type=int, default=2, help="images in each process, after one that does not count")
    parser.add_argument("--only", nargs="*", help="variants whose name holds one of these words")
    parser.add_argument("--tiny", action="store_true", help="small and once, to try the script; nothing is recorded")
    parser.add_argument("--variant", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    size = (64, 96) if arguments.tiny else tuple(arguments.size)
    if arguments.variant:
        work, flops = work_of(arguments.variant.split(), size)
        measured = measure_here(work, arguments.repeats)
        print(json.dumps(measured | {"gflop": flops() / 1e9}))
        return
    shape = ["--size", *map(str, size), "--repeats", "1" if arguments.tiny else str(arguments.repeats)]
    variants = {
        name: ["--variant", words, *shape]
        for name, words in VARIANTS.items()
        if is_installed(words.split()) and (not arguments.only or any(word in name for word in arguments.only))
    }
    measured = turn_about(__file__, variants, 1 if arguments.tiny else arguments.rounds)
    rows = []
    for name, row in measured.items():
        processor = row["user_seconds"] + row["system_seconds"]
        cells = [f"{row['seconds']:.2f}", f"{processor:.2f}", f"{row['gflop']:.1f}"]
        rows.append([name, *cells, f"{row['gflop'] / processor:.0f}", f"{row['above_idle_mb']:.0f}"])
    columns = ["", "s", "processor s", "GFLOP", "GFLOP/s", "peak MB above idle"]
    show(f"one image of {size[0]} x {size[1]}, {CLASSES} classes", columns, rows)
    if not arguments.tiny:
        save("against-others", {"size": list(size), "classes": CLASSES, "measured": measured})


if __name__ == "__main__":
    main()
