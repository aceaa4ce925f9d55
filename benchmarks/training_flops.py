"""Training FLOPs of the four ways of combining scales, counted by PyTorch over one forward and backward pass.

The article's Table 3 gives 1.00, 1.00, 5.25 and 1.25 for single scale, average pooling, explicit (0.5, 1, 2) and
hierarchical (0.5, 1). The heads come on top here: the hierarchical form runs its attention head at both scales.
"""

import argparse

from cost import training_flops
from record import save, show

from polyscale.backbones import BackboneConfig
from polyscale.decoders import DecoderConfig
from polyscale.models import AttentionConfig, ModelConfig, MultiScaleConfig

NETWORKS = {
    # name: backbone, decoder, output stride, width of the attention head, crop
    "EfficientNet-Lite0, light": ("tf_efficientnet_lite0", "light", None, 64, (256, 320)),
    "ResNet-50, DeepLabV3+": ("resnet50", "deeplabv3plus", 8, 128, (256, 512)),
    "ResNet-50, DeepLabV3+, published head": ("resnet50", "deeplabv3plus", 8, 256, (256, 512)),
    "HRNet-W48, OCR": ("hrnet_w48", "ocr", None, 128, (128, 256)),
    "HRNet-W48, OCR, published head": ("hrnet_w48", "ocr", None, 256, (128, 256)),
}


def count(network: str, method: str, num_classes: int = 19) -> int:
    """Multiply-adds times two of one training step on one crop."""
    backbone, decoder, stride, width, crop = NETWORKS[network]
    config = ModelConfig(
        backbone=BackboneConfig(name=backbone, output_stride=stride),
        decoder=DecoderConfig(kind=decoder),
        multiscale=MultiScaleConfig(method=method, attention=AttentionConfig(channels=width)),
    )
    return training_flops(config, crop, num_classes)


def main() -> None:
    """Count, print, record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS), choices=list(NETWORKS))
    networks = parser.parse_args().networks
    rows, values = [], {}
    for network in networks:
        flops = {method: count(network, method) for method in ("single", "average", "explicit", "hierarchical")}
        ratios = {method: number / flops["single"] for method, number in flops.items()}
        values[network] = {"crop": NETWORKS[network][-1], "training_flops_a_crop": flops, "ratio_to_single": ratios}
        rows.append([network, f"{flops['single'] / 1e9:.1f} G", *(f"{ratios[method]:.3f}x" for method in ratios)])
    show(
        "training FLOPs against one scale",
        ["network", "single, a crop", "single", "average", "explicit", "hierarchical"],
        rows,
    )
    save("training_flops", {"networks": values})


if __name__ == "__main__":
    main()
