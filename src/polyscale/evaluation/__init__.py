"""Scores of a network on a labelled data set, from one pass over its images."""

from polyscale.evaluation.attention import AttentionTable, AttentionTotals
from polyscale.evaluation.loop import evaluate
from polyscale.evaluation.recording import Recording
from polyscale.evaluation.result import Evaluation, Table
from polyscale.evaluation.rows import FUSED, ORACLE

__all__ = [
    "FUSED",
    "ORACLE",
    "AttentionTable",
    "AttentionTotals",
    "Evaluation",
    "Recording",
    "Table",
    "evaluate",
]
