"""Builds a decoder from its configuration."""

from collections.abc import Sequence

from polyscale.config import construct, import_path
from polyscale.decoders.decoder import DECODERS, Decoder, DecoderConfig
from polyscale.errors import UserError

__all__ = ["build_decoder"]


def build_decoder(config: DecoderConfig, channels: Sequence[int], strides: Sequence[int], num_classes: int) -> Decoder:
    """Build a decoder for a backbone's maps.

    Args:
        config: which kind, and its sizes.
        channels: channels of the backbone's maps, fine to coarse.
        strides: strides of the backbone's maps, fine to coarse.
        num_classes: C, the number of classes.

    Raises:
        UserError: the decoder cannot work on these maps, or is one of the user's own that cannot be made.

    Example:
        >>> decoder = build_decoder(DecoderConfig(kind="light"), channels=(64,), strides=(4,), num_classes=9)
        >>> decoder.feature_channels
        96
    """
    if config.kind in DECODERS:
        decoder: Decoder = import_path(DECODERS[config.kind].path)(config, channels, strides, num_classes)
        return decoder
    maps = {"channels": tuple(channels), "strides": tuple(strides)}
    decoder = construct(config.kind, Decoder, config.options, **maps, num_classes=num_classes)  # type: ignore[type-abstract]
    if not isinstance(getattr(decoder, "feature_channels", None), int):
        raise UserError(f"decoder {config.kind} does not set feature_channels, the number of channels of its features")
    return decoder
