"""Scores of the network that a run stores, while it trains and at its end."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import torch
from accelerate import Accelerator

from polyscale.data import SegmentationData
from polyscale.evaluation import Evaluation, evaluate
from polyscale.models.checkpoint import read_weights
from polyscale.multiscale import MultiScale
from polyscale.processes import share_buffers, share_weights
from polyscale.training.config import ExperimentConfig
from polyscale.training.listener import Listener
from polyscale.training.setup import Parts

__all__ = ["Scorer"]


class Scorer:
    """Scores on the validation data; every process calls it.

    Args:
        config: of the run.
        parts: of the run, with validation data.
        accelerator: of the run.
        listener: told of progress.
    """

    def __init__(self, config: ExperimentConfig, parts: Parts, accelerator: Accelerator, listener: Listener) -> None:
        assert parts.val_data is not None
        self.data: SegmentationData = parts.val_data
        self.settings, self.accelerator = config.validation, accelerator
        self.listener = listener
        average = parts.average
        self.network = parts.model if average is None else cast("MultiScale", average.module)
        self.autocast = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(config.training.mixed_precision)

    def now(self) -> Evaluation:
        """Of the network as it is."""
        share_buffers(self.network)
        return self._score(self.settings.scales or self.network.eval_scales)

    def best(self, path: Path) -> Evaluation:
        """Of a checkpoint of the run, at all scales that the network is used at; the network has its weights then."""
        if self.accelerator.is_main_process:
            self.network.load_state_dict(read_weights(path))
        share_weights(self.network)
        return self._score(self.network.eval_scales)

    def _score(self, scales: Sequence[float]) -> Evaluation:
        return evaluate(
            self.network,
            self.data,
            scales,
            flip=self.settings.flip,
            device=self.accelerator.device,
            autocast=self.autocast,
            progress=self._progress(),
        )

    def _progress(self) -> Callable[[int, int], None]:
        return lambda done, total: self.listener.working("validating", done, total)
