"""The training loop: explicit, short, and the same on one CPU and on many GPU nodes.

Unusual here: data loaders are not handed to accelerate, as our samplers know rank and epoch. Every random draw is a function of
(seed, step, rank), so a run that was killed at any moment continues to the same numbers.
"""

import hashlib
import json
import math
import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from polyscale.config import UserError
from polyscale.data import SegmentationData, check_files, open_data
from polyscale.evaluation import evaluate
from polyscale.losses import Objective
from polyscale.models import MultiScaleModel, build_model, save_checkpoint
from polyscale.training.config import ExperimentConfig
from polyscale.training.listener import Listener, Silent
from polyscale.training.loader import Batch, BatchPlan, TrainingCrops, build_loader, number_of_workers
from polyscale.training.optimizer import (
    build_optimizer,
    freeze_batchnorm,
    learning_rate_factor,
    moving_average,
    set_learning_rates,
)
from polyscale.training.records import RunLog, write_environment, write_resolved_config
from polyscale.training.resume import StopRequest, read_state, stop_on_signals, write_state
from polyscale.training.sampling import build_sampler, class_weights

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
    config: ExperimentConfig,
    out: str | Path,
    resume: bool = False,
    listener: Listener | None = None,
) -> TrainingResult:
    """Train a network and leave ``best.safetensors``, ``last.safetensors``, configuration and log in ``out``.

    Under ``torchrun`` or ``accelerate launch`` every process calls this. A run restarted by ``torchrun`` resumes by itself.

    Args:
        config: the run.
        out: its folder.
        resume: continue the run in ``out``; where there is none yet, start it.
        listener: told of progress.

    Raises:
        UserError: data that cannot be used, an ``out`` that holds a run already, a loss that is not finite.
    """
    out = Path(out)
    restarted = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0
    accelerator = Accelerator(mixed_precision=config.training.mixed_precision)
    try:
        run = _Run(config, out, resume or restarted, accelerator, listener or Silent())
        with stop_on_signals() as stop:
            return run.go(stop)
    finally:
        # accelerate keeps mixed precision in a process-wide singleton; without this a second call could not choose another.
        AcceleratorState._reset_state()


@dataclass
class _Progress:
    """What a resumed run must know besides weights."""

    step: int = 0
    best_miou: float | None = None
    losses: list[Tensor] = field(default_factory=list)


class _Run:
    def __init__(self, config: ExperimentConfig, out: Path, resume: bool, accelerator: Accelerator, listener: Listener) -> None:
        self.config = config
        self.out = out
        self.accelerator = accelerator
        self.main = accelerator.is_main_process
        self.listener: Listener = listener if self.main else Silent()
        self.settings = settings = config.training
        self.state_path = out / "resume.pt"
        self.fingerprint = _fingerprint(config)
        self.progress = _Progress()
        self._refuse_to_overwrite(resume)

        self.train_data = open_data(config.data.train)
        self.val_data = None if config.data.val is None else open_data(config.data.val)
        self._check_data()
        torch.manual_seed(config.seed)
        model = build_model(config.model, self.train_data.label_space)
        if settings.freeze_batchnorm:
            freeze_batchnorm(model)
        self.optimizer = build_optimizer(model, settings.optimizer)
        weights = class_weights(config.loss, self.train_data, self._working("counting pixels"))
        self.objective = Objective(config.loss, weights).to(accelerator.device)
        with accelerator.main_process_first():  # the others read its cache
            sampler = build_sampler(config, self.train_data, out, self._working("finding classes"))
        self.plan = BatchPlan(
            sampler, settings.batch_size, settings.accumulate, settings.epochs, accelerator.process_index, accelerator.num_processes
        )
        if settings.channels_last:
            model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if settings.sync_batchnorm and accelerator.num_processes > 1 and accelerator.device.type == "cuda":
            model = torch.nn.SyncBatchNorm.convert_sync_batchnorm(model)
        self.model: MultiScaleModel = model.to(accelerator.device)
        self.average: AveragedModel | None = (
            None if settings.ema_decay is None else moving_average(self.model, settings.ema_decay)
        )
        if resume and self.state_path.exists():
            self._restore()
        self.network, self.optimizer = accelerator.prepare(self.model, self.optimizer)

    def _refuse_to_overwrite(self, resume: bool) -> None:
        if self.out.exists() and not self.out.is_dir():
            raise UserError(f"{self.out} is a file; choose a folder for --out")
        if self.state_path.exists() and not resume:
            raise UserError(f"{self.out} holds a run already; add --resume to continue it, or choose another --out")

    def _working(self, what: str) -> Callable[[int, int], None]:
        return lambda done, total: self.listener.working(what, done, total)

    def _check_data(self) -> None:
        if not self.settings.check_data:
            return
        problem = ""
        if self.main:
            try:
                for name, data in (("training images", self.train_data), ("validation images", self.val_data)):
                    if data is not None:
                        check_files(data, self._working(f"checking {name}"), cache_dir=self.out)
            except UserError as error:
                problem = str(error)
        problem = _broadcast(problem, self.accelerator)
        if problem:
            raise UserError(problem)

    def go(self, stop: StopRequest) -> TrainingResult:
        """Train from the current step to the end, or until a signal asks to stop."""
        if self.main:
            write_resolved_config(self.out / "config.yaml", self.config)
            write_environment(self.out / "environment.json")
        log = RunLog(self.out, self.progress.step, self.settings.tensorboard) if self.main else None
        self.log = log
        try:
            stopped = self._steps(stop)
        finally:
            if log is not None:
                log.close()
        last, best = self.out / "last.safetensors", self.out / "best.safetensors"
        return TrainingResult(
            last, best if best.exists() else last, self.progress.best_miou, self.progress.step, stop.signal if stopped else None
        )

    def _steps(self, stop: StopRequest) -> bool:
        """All steps that remain; True where a signal ended them early."""
        plan, settings = self.plan, self.settings
        plan.first_step = self.progress.step
        self.listener.started(plan.first_step, plan.total_steps, plan.global_batch)
        processes_here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        loader = build_loader(
            TrainingCrops(self.train_data, self.config.augment, self.config.seed),
            plan,
            number_of_workers(settings.num_workers, processes_here),
            pin_memory=self.accelerator.device.type == "cuda",
        )
        batches = iter(loader) if len(plan) else iter(())
        saved_at = time.monotonic()
        for step in range(plan.first_step, plan.total_steps):
            if self._asked_to_stop(stop, step):
                self._save_state()
                self.listener.said(f"stopped after {step} steps and saved; continue with --resume")
                return True
            self._train_mode()
            set_learning_rates(
                self.optimizer, learning_rate_factor(settings.schedule, step, plan.total_steps, plan.steps_per_epoch)
            )
            terms = self._step(step, batches)
            self.progress.step = step + 1
            self._record(step + 1, terms)
            if (step + 1) % plan.steps_per_epoch == 0:
                self._end_of_epoch((step + 1) // plan.steps_per_epoch)
                saved_at = time.monotonic()
            elif time.monotonic() - saved_at > settings.save_every:
                self._save_state()
                saved_at = time.monotonic()
        return False

    def _train_mode(self) -> None:
        self.network.train()
        if self.settings.freeze_batchnorm:
            freeze_batchnorm(self.model)

    def _step(self, step: int, batches: Any) -> dict[str, Tensor]:
        """One optimiser step; the mean of each loss term over its micro-steps."""
        accumulate, sums = self.settings.accumulate, {}
        for micro in range(accumulate):
            batch: Batch = next(batches)
            # Dropout and the like: a function of seed, step and rank, so that no random state needs saving.
            torch.manual_seed(_mix(self.config.seed, step * accumulate + micro, self.accelerator.process_index))
            device = self.accelerator.device
            images = batch.images.to(device, non_blocking=True)
            if self.settings.channels_last:
                images = images.contiguous(memory_format=torch.channels_last)
            labels = batch.labels.to(device, non_blocking=True)
            whole = micro + 1 == accumulate
            with nullcontext() if whole else self.accelerator.no_sync(self.network):
                with self.accelerator.autocast():
                    fused = self.network(images, self.model.train_scales)
                terms: dict[str, Tensor] = self.objective(fused, labels)
                self.accelerator.backward(terms["total"] / accumulate)
            for name, value in terms.items():
                sums[name] = sums.get(name, 0) + value.detach() / accumulate
        if self.settings.clip_norm is not None:
            self.accelerator.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.average is not None:
            self.average.update_parameters(self.model)
        return sums

    def _record(self, step: int, terms: dict[str, Tensor]) -> None:
        self.progress.losses.append(terms["total"])
        last = step == self.plan.total_steps
        if step % self.settings.log_every and not last:
            return
        # One number in ten steps crosses the processes; the log's loss is that of the global batch.
        names = list(terms)
        values = torch.stack([*(terms[name].float() for name in names), torch.stack(self.progress.losses).float().mean()])
        values = self.accelerator.reduce(values.double() if values.device.type == "cpu" else values, "mean")
        *means, running = values.tolist()
        self.progress.losses.clear()
        if not math.isfinite(running):
            raise UserError(
                f"the loss is {running} at step {step}; lower training.optimizer.lr, set training.clip_norm or use bf16 in place of "
                "fp16. The state of the last save is kept: --resume continues from it"
            )
        self.listener.stepped(step, running)
        if self.log is not None:
            rate = self.optimizer.param_groups[-1]["lr"]
            epoch = step / self.plan.steps_per_epoch
            self.log.write(step, {"loss": dict(zip(names, means, strict=True)), "epoch": round(epoch, 4), "lr": rate})

    def _asked_to_stop(self, stop: StopRequest, step: int) -> bool:
        """Whether any process was asked to stop; processes agree at logged steps only, to spare a synchronisation each step."""
        if self.accelerator.num_processes == 1:
            return stop.signal is not None
        if step % self.settings.log_every:
            return False
        flag = torch.tensor(float(stop.signal is not None), device=self.accelerator.device)
        return bool(self.accelerator.reduce(flag, "sum").item())

    def _end_of_epoch(self, epoch: int) -> None:
        due = epoch % self.config.validation.every == 0 or epoch == self.settings.epochs
        scores = None
        if self.val_data is not None and due:
            scores = self._validate(epoch, self.val_data)
        if self.main:
            self._checkpoint("last", epoch, scores)
        self._save_state()

    def _validate(self, epoch: int, data: SegmentationData) -> float:
        model = self.model if self.average is None else self.average.module
        model.eval()
        chosen = self.config.validation
        evaluation = evaluate(
            model,
            data,
            scales=chosen.scales or self.model.eval_scales,
            flip=chosen.flip,
            device=self.accelerator.device,
            progress=self._working("validating"),
        )
        miou = evaluation.scores.mean_iou or 0.0  # undefined where the validation labels are all ignored
        best = self.progress.best_miou is None or miou > self.progress.best_miou
        if best:
            self.progress.best_miou = miou
        if self.log is not None:
            per_class = evaluation.scores.to_json()
            self.log.write(self.progress.step, {"validation": {"epoch": epoch, "miou": miou}, "scores": per_class})
            if best:
                self._checkpoint("best", epoch, miou)
        self.listener.validated(epoch, evaluation, best)
        return miou

    def _checkpoint(self, name: str, epoch: int, miou: float | None) -> None:
        info = {"experiment": self.config.name, "epoch": epoch, "step": self.progress.step, "seed": self.config.seed, "miou": miou}
        state = None if self.average is None else self.average.module.state_dict()
        save_checkpoint(self.out / f"{name}.safetensors", self.model, self.train_data.label_space, info, state)

    def _save_state(self) -> None:
        if not self.main:
            return
        scaler = self.accelerator.scaler
        write_state(
            self.state_path,
            {
                "fingerprint": self.fingerprint,
                "global_batch": self.plan.global_batch,
                "step": self.progress.step,
                "best_miou": self.progress.best_miou,
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "average": None if self.average is None else self.average.state_dict(),
                "scaler": None if scaler is None else scaler.state_dict(),
            },
        )

    def _restore(self) -> None:
        state = read_state(self.state_path, self.fingerprint)
        if state["global_batch"] != self.plan.global_batch:
            raise UserError(
                f"the run was made with {state['global_batch']} crops a step and would continue with {self.plan.global_batch}; "
                "choose training.batch_size and training.accumulate so that their product with the number of processes is the same"
            )
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        if self.accelerator.scaler is not None and state["scaler"] is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.progress = _Progress(step=state["step"], best_miou=state["best_miou"])
        self.listener.said(f"continuing after step {state['step']} of {self.plan.total_steps}")


def _broadcast(text: str, accelerator: Accelerator) -> str:
    """The main process's text on every process."""
    if accelerator.num_processes == 1:
        return text
    box = [text]
    torch.distributed.broadcast_object_list(box, src=0)
    return box[0]


def _mix(seed: int, step: int, rank: int) -> int:
    digest = hashlib.sha256(f"{seed}/{step}/{rank}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def _fingerprint(config: ExperimentConfig) -> str:
    """Of everything that decides the numbers of a run; bookkeeping, and how the batch is spread over processes, are left out."""
    values = config.model_dump(mode="json")
    for key in ("num_workers", "log_every", "save_every", "check_data", "tensorboard", "batch_size", "accumulate"):
        del values["training"][key]
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
