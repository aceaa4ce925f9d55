"""Losses, and the objective that sums them over the fused, auxiliary and per-scale logits.

A loss is a pure function of logits (N, C, H, W) and labels (N, H, W) to a scalar. It computes in at least float32
whatever autocast says, ignores pixels labelled 255, stays finite where nothing counts, and with several processes
divides by what all of them counted, so that averaged gradients are those of one process with the whole batch.
"""

from polyscale.losses.bce import bce
from polyscale.losses.cross_entropy import cross_entropy, inverse_log_weights
from polyscale.losses.dice import dice
from polyscale.losses.objective import LossConfig, LossTerm, Objective
from polyscale.losses.reduction import global_count, global_sum
from polyscale.losses.rmi import region_mutual_information, rmi_loss

__all__ = [
    "LossConfig",
    "LossTerm",
    "Objective",
    "bce",
    "cross_entropy",
    "dice",
    "global_count",
    "global_sum",
    "inverse_log_weights",
    "region_mutual_information",
    "rmi_loss",
]
