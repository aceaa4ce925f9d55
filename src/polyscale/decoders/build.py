"""From a decoder's configuration to the decoder."""

from collections.abc import Sequence

from polyscale.decoders.decoder import Decoder, DecoderConfig

__all__ = ["build_decoder"]


def build_decoder(config: DecoderConfig, channels: Sequence[int], strides: Sequence[int], num_classes: int) -> Decoder:
    """Build a decoder for a backbone's maps.

    Args:
        config: which kind, and its sizes.
        channels: channels of the backbone's maps, fine to coarse.
        strides: strides of the backbone's maps, fine to coarse.
        num_classes: C, the number of classes.

    Raises:
        UserError: the decoder cannot work on these maps.

    Example:
        >>> decoder = build_decoder(DecoderConfig(kind="light"), channels=(64,), strides=(4,), num_classes=9)
        >>> decoder.feature_channels
        96
    """
    if config.kind == "light":
        from polyscale.decoders.light import LightDecoder

        return LightDecoder(config, channels, strides, num_classes)
    if config.kind == "ocr":
        from polyscale.decoders.ocr import OCRDecoder

        return OCRDecoder(config, channels, strides, num_classes)
    if config.kind == "deeplabv3":
        from polyscale.decoders.deeplabv3 import DeepLabV3Decoder

        return DeepLabV3Decoder(config, channels, strides, num_classes)
    if config.kind == "deeperlab":
        from polyscale.decoders.deeperlab import DeeperLabDecoder

        return DeeperLabDecoder(config, channels, strides, num_classes)
    from polyscale.decoders.deeplabv3plus import DeepLabV3PlusDecoder

    return DeepLabV3PlusDecoder(config, channels, strides, num_classes)
