"""Decoders: a backbone's maps in; features, class logits and auxiliary logits on one grid out."""

from polyscale.decoders.build import build_decoder
from polyscale.decoders.decoder import Decoded, Decoder, DecoderConfig

__all__ = ["Decoded", "Decoder", "DecoderConfig", "build_decoder"]
