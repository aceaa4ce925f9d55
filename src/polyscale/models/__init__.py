"""Networks: backbone + decoder + scale-attention head, combined over scales, and their one-file checkpoints."""

from polyscale.models.build import AttentionConfig, ModelConfig, MultiScaleConfig, build_model
from polyscale.models.checkpoint import load_checkpoint, read_metadata, save_checkpoint
from polyscale.models.segmenter import ScaleAttention, Segmenter

__all__ = [
    "AttentionConfig",
    "ModelConfig",
    "MultiScaleConfig",
    "ScaleAttention",
    "Segmenter",
    "build_model",
    "load_checkpoint",
    "read_metadata",
    "save_checkpoint",
]
