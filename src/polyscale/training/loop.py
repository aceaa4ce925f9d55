"""The training loop: explicit, short, and the same on one CPU and on many GPU nodes.

Data loaders are not handed to accelerate, as our samplers know rank and epoch. Every random draw is a function of
(seed, step, rank), so a run that was killed at any moment continues to the same numbers.
"""

import contextlib
import math
import os
import time
import traceback
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import InitProcessGroupKwargs
from torch import Tensor

from polyscale.crops.loader import Batch, TrainingCrops, build_loader, number_of_workers
from polyscale.errors import UserError
from polyscale.files import check_folder, locked, remove_leftovers
from polyscale.models import save_checkpoint
from polyscale.training.choose import AnyConfig, resolve_config
from polyscale.training.config import ExperimentConfig
from polyscale.training.failure import diverged
from polyscale.training.listener import Listener, Silent
from polyscale.training.optimizer import learning_rate_factor, set_learning_rates
from polyscale.training.records import RunLog, write_environment, write_resolved_config
from polyscale.training.resume import Progress, StopRequest, has_begun, restore_state, save_state, stop_on_signals
from polyscale.training.scoring import Scorer
from polyscale.training.setup import prepare
from polyscale.training.step import OptimizerStep
from polyscale.training.trackers import open_tracker

__all__ = ["TrainingResult", "train"]


class TrainingResult(NamedTuple):
    """How a run ended."""

    last: Path
    """Checkpoint of the newest weights."""
    best: Path
    """Checkpoint of the best validation; equal to ``last`` where nothing was validated."""
    best_miou: float | None
    """In [0, 1]."""
    steps: int
    """Optimiser steps done."""
    signal: int | None
    """The signal that stopped the run early; None where it ran to its end."""


def train(
    config: AnyConfig,
    out: str | Path | None = None,
    resume: bool = False,
    listener: Listener | None = None,
) -> TrainingResult:
    """Train a network and leave ``best.safetensors``, ``last.safetensors``, configuration and log in ``out``.

    Under ``torchrun`` or ``accelerate launch`` every process calls this. A run restarted by ``torchrun`` resumes by
    itself.

    Args:
        config: the run; a recipe's path or several, later ones win; or the keys of a recipe as a dictionary. The path
            of a data set chooses a recipe for it (``choose_recipe``).
        out: its folder; by default ``runs/NAME``.
        resume: continue the run in ``out``; where there is none yet, start it.
        listener: told of progress.

    Raises:
        UserError: data that cannot be used, an ``out`` that holds a run already, a loss that is not finite.
    """
    config = resolve_config(config, out, resume)
    out = Path("runs") / config.name if out is None else Path(out)
    resume = resume or int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0
    check_folder(out)
    with contextlib.ExitStack() as stack:
        if os.environ.get("RANK", "0") == "0":
            stack.enter_context(locked(out / ".lock", f"another run is training into {out}; choose another --out"))
        return _train(config, out, resume, listener or Silent())


def _train(config: ExperimentConfig, out: Path, resume: bool, listener: Listener) -> TrainingResult:
    networks = any((out / name).exists() for name in ("last.safetensors", "best.safetensors"))
    begun = networks or has_begun(out / "resume.pt")
    if not resume and begun:
        raise UserError(f"{out} holds a run already; add --resume to continue it, or choose another --out")
    if networks and not (out / "resume.pt").exists():
        raise UserError(
            f"{out} holds a network but no resume.pt to continue from; choose another --out, where training.start_from "
            "may begin with that network"
        )
    # Without being told, accelerate lets several processes without a GPU each believe to be the only one.
    several_on_cpu = int(os.environ.get("WORLD_SIZE", "1")) > 1 and not torch.cuda.is_available()
    # The first process alone checks the files while the others wait, which on large data takes longer than the ten
    # minutes that they are given by default.
    patience = InitProcessGroupKwargs(timeout=timedelta(hours=2))
    accelerator = Accelerator(
        mixed_precision=config.training.mixed_precision, cpu=several_on_cpu, kwargs_handlers=[patience]
    )
    try:
        run = _Run(config, out, begun, accelerator, listener)
        with stop_on_signals() as stop:
            return run.go(stop)
    finally:
        # accelerate keeps mixed precision in a process-wide singleton; without this a second call could not choose
        # another.
        AcceleratorState._reset_state()


class _Run:
    def __init__(
        self, config: ExperimentConfig, out: Path, begun: bool, accelerator: Accelerator, listener: Listener
    ) -> None:
        self.config, self.settings, self.out = config, config.training, out
        self.accelerator, self.main = accelerator, accelerator.is_main_process
        self.listener: Listener = listener if self.main else Silent()
        self.parts = prepare(config, out, begun, accelerator, self.listener)
        self.progress = Progress()
        self.losses: list[Tensor] = []  # since the last logged step
        if begun:
            self.progress = restore_state(out / "resume.pt", config, self.parts, accelerator)
            self.listener.said(f"continuing after step {self.progress.step} of {self.parts.plan.total_steps}")
        total, asked = self.parts.plan.total_steps, self.settings.schedule
        self.schedule = asked.fitting(total)
        if self.schedule != asked:
            self.listener.said(
                f"this run has {total} steps; its warm-up is shortened from {asked.warmup_steps} to a fifth of that, "
                f"as with training.schedule.warmup_steps={self.schedule.warmup_steps}"
            )
        self.scorer = None if self.parts.val_data is None else Scorer(config, self.parts, accelerator, self.listener)
        self.network, self.optimizer = accelerator.prepare(self.parts.model, self.parts.optimizer)
        self.step = OptimizerStep(config, out, self.parts, accelerator, self.network, self.optimizer)

    def go(self, stop: StopRequest) -> TrainingResult:
        """Train from the current step to the end, or until a signal asks to stop."""
        if self.main:
            remove_leftovers(self.out)
            write_resolved_config(self.out / "config.yaml", self.config)
            write_environment(self.out / "environment.json")
        if not self.progress.step:
            self._save_state()  # so that no network is ever without the state of its run
        self.log = None
        if self.main:
            tracker = open_tracker(self.config, self.out, self.progress.step)
            self.log = RunLog(self.out, self.progress.step, tracker)
        self.batches = self._batches()
        try:
            stopped = self._steps(stop)
            if not stopped and self.scorer is not None and self.config.validation.final:
                self._score_best(self.scorer)
        except BaseException as error:
            # Its frames keep the loaders alive, which ignore signals: Python would wait for them for ever.
            traceback.clear_frames(error.__traceback__)
            raise
        finally:
            self.batches = iter(())  # ends the loaders
            if self.log is not None:
                self.log.close()
        last, best = self.out / "last.safetensors", self.out / "best.safetensors"
        signal = stop.signal if stopped else None
        best = best if best.exists() else last
        return TrainingResult(last, best, self.progress.best_miou, self.progress.step, signal)

    def _steps(self, stop: StopRequest) -> bool:
        """All steps that remain; True where a signal ended them early."""
        plan, settings = self.parts.plan, self.settings
        self.listener.started(plan.first_step, plan.total_steps, plan.global_batch)
        saved_at = time.monotonic()
        for step in range(plan.first_step, plan.total_steps):
            if self._asked_to_stop(stop, step):
                self._save_state()
                if self.main:
                    self._checkpoint("last", step // plan.steps_per_epoch, None)
                self.listener.said(f"stopped after {step} steps and saved")
                return True
            factor = learning_rate_factor(self.schedule, step, plan.total_steps, plan.steps_per_epoch)
            set_learning_rates(self.optimizer, factor)
            terms = self.step(step, self.batches)
            self.progress.step = step + 1
            self._record(step + 1, terms)
            if (step + 1) % plan.steps_per_epoch == 0:
                self._end_of_epoch((step + 1) // plan.steps_per_epoch)
                saved_at = time.monotonic()
            elif time.monotonic() - saved_at > settings.save_every:
                self._save_state()
                saved_at = time.monotonic()
        return False

    def _batches(self) -> Iterator[Batch]:
        plan = self.parts.plan
        plan.first_step = self.progress.step
        if not len(plan):
            return iter(())
        loader = build_loader(
            TrainingCrops(self.parts.train_data, self.config.augment, self.config.seed),
            plan,
            number_of_workers(self.settings.num_workers, int(os.environ.get("LOCAL_WORLD_SIZE", "1"))),
            pin_memory=self.accelerator.device.type == "cuda",
        )
        return iter(loader)

    def _record(self, step: int, terms: dict[str, Tensor]) -> None:
        self.losses.append(terms["total"])
        if step % self.settings.log_every and step != self.parts.plan.total_steps:
            return
        # The numbers cross the processes at logged steps only; the log's loss is that of the global batch.
        values = torch.stack([*(value.float() for value in terms.values()), torch.stack(self.losses).float().mean()])
        self.losses.clear()
        *means, running = self.accelerator.reduce(values, "mean").tolist()
        if not math.isfinite(running):  # of another process
            raise diverged(f"the loss is {running}", step)
        self.listener.stepped(step, running)
        if self.log is not None:
            rate = max(group["lr"] for group in self.optimizer.param_groups)
            epoch = round(step / self.parts.plan.steps_per_epoch, 4)
            self.log.write(step, {"loss": dict(zip(terms, means, strict=True)), "epoch": epoch, "lr": rate})

    def _asked_to_stop(self, stop: StopRequest, step: int) -> bool:
        """Whether any process was asked to stop; they agree at logged steps only, to spare waiting at each step."""
        if self.accelerator.num_processes == 1:
            return stop.signal is not None
        return not step % self.settings.log_every and self._any(stop.signal is not None)

    def _any(self, mine: bool) -> bool:
        """Whether it is true in any process; all of them ask."""
        flag = torch.tensor(float(mine), device=self.accelerator.device)
        return bool(self.accelerator.reduce(flag, "sum").item())

    def _end_of_epoch(self, epoch: int) -> None:
        self._check_weights()
        due = epoch % self.config.validation.every == 0 or epoch == self.settings.epochs
        miou = None
        if self.scorer is not None and due:
            miou = self._validate(epoch, self.scorer)
        if self.main:
            self._checkpoint("last", epoch, miou)
        self._save_state()

    def _validate(self, epoch: int, scorer: Scorer) -> float:
        evaluation = scorer.now()
        miou = evaluation.scores.mean_iou or 0.0  # undefined where the validation labels are all ignored
        best = self.progress.best_miou is None or miou > self.progress.best_miou
        if best:
            self.progress.best_miou = miou
        if self.log is not None:
            validation = {"epoch": epoch, "miou": miou}
            self.log.write(self.progress.step, {"validation": validation, "scores": evaluation.scores.to_json()})
            if self.log.tracker is not None:
                self.log.tracker.show(self.progress.step, scorer.pictures())
            if best:
                self._checkpoint("best", epoch, miou)
        self.listener.validated(epoch, evaluation, best)
        return miou

    def _score_best(self, scorer: Scorer) -> None:
        """After the last step, once."""
        if self._any(self.main and any("final" in line for line in RunLog.read(self.out / "log.jsonl"))):
            return
        evaluation = scorer.best(self.out / "best.safetensors")
        scales = sorted(scorer.network.eval_scales)
        if self.log is not None:
            final = {"scales": scales, "miou": evaluation.scores.mean_iou}
            self.log.write(self.progress.step, {"final": final, "scores": evaluation.scores.to_json()})
        self.listener.said(f"the best network at scales {', '.join(f'{scale:g}' for scale in scales)}:")
        self.listener.validated(self.settings.epochs, evaluation, best=False)

    def _checkpoint(self, name: str, epoch: int, miou: float | None) -> None:
        average = self.parts.average
        info = {"experiment": self.config.name, "epoch": epoch, "step": self.progress.step, "seed": self.config.seed}
        save_checkpoint(
            self.out / f"{name}.safetensors",
            self.parts.model,
            self.parts.train_data.label_space,
            {**info, "miou": miou, **self._bands()},
            None if average is None else average.module.state_dict(),
        )

    def _bands(self) -> dict[str, Any]:
        """How images of other channels than RGB are read, for those who use the network on files."""
        bands = getattr(next(iter(self.parts.train_data.parts.values())), "bands", None)
        return {} if bands is None else {"bands": bands.model_dump(mode="json")}

    def _check_weights(self) -> None:
        # A network that diverged since the last logged step is not saved over a sound one.
        if not all(bool(value.isfinite().all()) for value in self.parts.model.state_dict().values()):
            raise diverged("weights of the network are not finite", self.progress.step)

    def _save_state(self) -> None:
        if self.main:
            self._check_weights()
            save_state(self.out / "resume.pt", self.config, self.parts, self.progress, self.accelerator)
