"""Scores of the network that a run stores, while it trains and at its end."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from accelerate import Accelerator
from PIL import Image

from polyscale.data import SegmentationData
from polyscale.data.bands import as_rgb
from polyscale.data.items import Sample
from polyscale.evaluation import Evaluation, evaluate
from polyscale.looker import see
from polyscale.models.checkpoint import read_weights
from polyscale.multiscale import MultiScale
from polyscale.pictures import legend, overlay, panel
from polyscale.processes import share_buffers, share_weights
from polyscale.training.config import ExperimentConfig
from polyscale.training.listener import Listener
from polyscale.training.setup import Parts

__all__ = ["Scorer"]

_SHOWN = 4
"""Images that a tracker gets pictures of."""
_WIDEST = 480
"""Longest side of each of these, in pixels."""


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
        """Scores of the network as it is."""
        share_buffers(self.network)
        return self._score(self.settings.scales or self.network.eval_scales)

    def best(self, path: Path) -> Evaluation:
        """Scores of a checkpoint of the run, at all scales of the network's use. The network keeps its weights."""
        if self.accelerator.is_main_process:
            self.network.load_state_dict(read_weights(path))
        share_weights(self.network)
        return self._score(self.network.eval_scales)

    @torch.inference_mode()
    def pictures(self) -> list[Image.Image]:
        """Some validation images, always the same: the image, its truth and what the network says, side by side."""
        network, training = self.network, self.network.training
        network.eval()
        indices = np.unique(np.linspace(0, len(self.data) - 1, _SHOWN).round().astype(int)).tolist()
        found = [self._picture(self.data.read(index)) for index in indices]
        network.train(training)
        return found

    def _picture(self, sample: Sample) -> Image.Image:
        image = torch.from_numpy(sample.image).permute(2, 0, 1)[None].to(self.accelerator.device).float() / 255
        scales = self.network.choose(self.settings.scales or None)
        labels = see(self.network, image, scales, autocast=self.autocast).logits[0].argmax(0).byte().cpu().numpy()
        space = self.data.label_space
        truth = labels if sample.labels is None else sample.labels
        shown = as_rgb(sample.image)
        cells = [Image.fromarray(shown), overlay(shown, truth, space), overlay(shown, labels, space)]
        factor = min(1.0, _WIDEST / shown.shape[1])
        size = (max(1, round(shown.shape[1] * factor)), max(1, round(shown.shape[0] * factor)))
        captions = (sample.name, "truth", "network")
        named = [(told, cell.resize(size)) for told, cell in zip(captions, cells, strict=True)]
        return panel(named, len(named), legend(space, 3 * size[0]))

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
