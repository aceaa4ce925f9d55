"""Losses, and the objective that sums them over the fused, auxiliary and per-scale logits.

A loss is a function of logits (N, C, H, W) and labels (N, H, W), or a target prepared from these, to a scalar. It
computes in at least float32 whatever autocast says, ignores pixels labelled 255 and stays finite where nothing counts.
With several processes it divides by what all of them counted: averaged gradients are those of one process with the
whole batch.
"""

from polyscale.losses.bce import bce
from polyscale.losses.config import LOSSES, LossConfig, LossTerm
from polyscale.losses.cross_entropy import cross_entropy, inverse_log_weights
from polyscale.losses.dice import dice
from polyscale.losses.focal import focal
from polyscale.losses.inputs import Target
from polyscale.losses.lovasz import lovasz_softmax
from polyscale.losses.objective import Objective
from polyscale.losses.reduction import global_count, global_sum
from polyscale.losses.rmi import region_mutual_information, rmi_loss

__all__ = [
    "LOSSES",
    "LossConfig",
    "LossTerm",
    "Objective",
    "Target",
    "bce",
    "cross_entropy",
    "dice",
    "focal",
    "global_count",
    "global_sum",
    "inverse_log_weights",
    "lovasz_softmax",
    "region_mutual_information",
    "rmi_loss",
]
