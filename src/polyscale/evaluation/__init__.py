"""Scores of a network on a labelled data set, from one pass over its images."""

from polyscale.evaluation.attention import AttentionTable, AttentionTotals
from polyscale.evaluation.loop import evaluate
from polyscale.evaluation.recording import Recording
from polyscale.evaluation.result import Evaluation, Table
from polyscale.evaluation.rows import (
    AVERAGE_LOGITS,
    AVERAGE_PROBABILITIES,
    AVERAGE_WITH_FLIP,
    CONSTANT_ATTENTION,
    FUSED,
    FUSED_WITHOUT_FLIP,
    ORACLE,
    scale_row,
)

__all__ = [
    "AVERAGE_LOGITS",
    "AVERAGE_PROBABILITIES",
    "AVERAGE_WITH_FLIP",
    "CONSTANT_ATTENTION",
    "FUSED",
    "FUSED_WITHOUT_FLIP",
    "ORACLE",
    "AttentionTable",
    "AttentionTotals",
    "Evaluation",
    "Recording",
    "Table",
    "evaluate",
    "scale_row",
]
