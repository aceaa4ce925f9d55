"""Numbers that must stay sound: NaN is caught, RMI is finite, memory is flat, workers change nothing."""

import itertools
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from campaign import sound
from campaign.fuzz import resident

__all__ = ["CHECKS"]


def _train(root: Path, out: Path, listener: Any = None, **training: Any) -> Any:
    from polyscale.config import validate
    from polyscale.training import ExperimentConfig, train

    if not (root / "data").exists():
        sound.squares(root / "data", (8, 2))
    return train(validate(ExperimentConfig, sound.recipe_values(root / "data", **training)), out, listener=listener)


def degenerate_crops(_: Path, count: int = 10_000) -> dict[str, Any]:
    """RMI of crops that hold one class, one pixel or none, under logits that are equal, huge or the labels' own."""
    import torch

    from polyscale.losses.rmi import rmi_loss

    generator = torch.Generator().manual_seed(0)
    size, wrong = (16, 20), []
    for number in range(0, count, 8):
        labels = torch.full((8, *size), 255)
        for crop, kind in enumerate(torch.randint(0, 5, (8,), generator=generator).tolist()):
            if kind == 1:
                labels[crop] = 1
            elif kind == 2:
                labels[crop, 3, 4] = 2
            elif kind == 3:
                labels[crop] = torch.randint(0, 3, size, generator=generator)
            elif kind == 4:
                labels[crop, :8] = 0
        logits = torch.randn(8, 3, *size, generator=generator)
        logits *= (0.0, 1e-8, 1.0, 1e4, 1e30)[number // 8 % 5]
        logits.requires_grad_()
        loss = rmi_loss(logits, labels)
        loss.backward()
        if not (loss.isfinite() and logits.grad is not None and logits.grad.isfinite().all()):
            wrong.append(f"crops from {number} on: loss {loss.item()}")
    return {"crops": count, "wrong": wrong}


def not_finite(root: Path) -> dict[str, Any]:
    """A run that diverges names step and images, leaves what replays, and keeps the networks that were there."""
    import re

    import torch

    from polyscale.errors import UserError
    from polyscale.losses import Objective
    from polyscale.training import replay

    wrong, out = [], root / "diverged"
    calls = itertools.count(1)
    forward = Objective.forward

    def failing(self: Any, *given: Any) -> dict[str, Any]:
        terms = forward(self, *given)
        return {**terms, "total": terms["total"] * (math.nan if next(calls) == 11 else 1)}

    Objective.forward = failing  # type: ignore[method-assign, assignment]
    try:
        _train(root, out, epochs=3)
        wrong.append("a loss that is nan ended nothing")
    except UserError as error:
        if not re.search(r"loss is nan at step 11 \(images \d+, .*failure\.pt", str(error)):
            wrong.append(f"the message is {error}")
    finally:
        Objective.forward = forward  # type: ignore[method-assign]
    state = torch.load(out / "resume.pt", weights_only=True)
    if not all(value.isfinite().all() for value in state["model"].values()):
        wrong.append("the state holds numbers that are not finite")
    if not math.isfinite(replay(out / "failure.pt")[0]["total"]):
        wrong.append("the step does not replay to the loss of the sound network")
    return {"step": 11, "saved_step": state["step"], "wrong": wrong}


class _Watch:
    """Notes memory, handles and children while a run trains."""

    def __init__(self) -> None:
        from polyscale.training.listener import Silent

        self.quiet = Silent()
        self.seen: dict[int, tuple[int, int, int]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.quiet, name)

    def stepped(self, step: int, loss: float) -> None:
        """Note it at every hundredth step."""
        del loss
        if step % 100 == 0:
            self.seen[step] = usage()


def usage() -> tuple[int, int, int]:
    """Bytes of memory, open handles and child processes of this process."""
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text(encoding="ascii").split()
    return resident("VmRSS"), len(list(Path("/proc/self/fd").iterdir())), len(children)


def flat_memory(root: Path, steps: int = 2000) -> dict[str, Any]:
    """Memory, handles and processes of a run, from a quarter of it to its end, and over twenty evaluations."""
    from polyscale.data import open_data
    from polyscale.evaluation import evaluate
    from polyscale.models import load_checkpoint

    watch, wrong = _Watch(), []
    epochs = steps // 4
    result = _train(root, root / "long", watch, epochs=epochs, save_every=3600, num_workers=1, log_every=100)
    early, late = watch.seen[steps // 4 // 100 * 100], watch.seen[steps // 100 * 100]
    network = load_checkpoint(result.last)
    data = open_data(root / "data", "val")
    points = []
    for _ in range(20):
        evaluate(network.model, data, (0.5, 1), label_space=network.label_space)
        points.append(usage())
    grown, grown_evaluating = (late[0] - early[0]) / 1e6, (points[-1][0] - points[4][0]) / 1e6
    if grown > 30 or grown_evaluating > 30:
        wrong.append(f"memory grew by {grown:.0f} MB in training, {grown_evaluating:.0f} MB in evaluations")
    if late[1:] != early[1:] or points[-1][1:] != points[4][1:]:
        wrong.append(f"handles and processes: {early[1:]} to {late[1:]}, {points[4][1:]} to {points[-1][1:]}")
    return {
        "steps": result.steps,
        "evaluations": 20,
        "megabytes_training": round(grown, 1),
        "megabytes_evaluating": round(grown_evaluating, 1),
        "handles": late[1] - early[1],
        "processes": late[2] - early[2],
        "wrong": wrong,
    }


def workers(root: Path, steps: int = 50) -> dict[str, Any]:
    """The first losses, and the network after them, with 0, 1, 2 and 4 loader processes."""
    found = {}
    for number in (0, 1, 2, 4):
        out = root / f"workers{number}"
        _train(root, out, num_workers=number, epochs=-(-steps // 4))
        lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
        found[number] = (
            [line["loss"] for line in lines if "loss" in line][:steps],
            (out / "last.safetensors").read_bytes(),
        )
    wrong = [f"{number} workers give other numbers than none" for number in found if found[number] != found[0]]
    return {"losses": len(found[0][0]), "workers": list(found), "wrong": wrong}


CHECKS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "RMI of degenerate crops": degenerate_crops,
    "a loss that is not finite": not_finite,
    "2,000 steps and 20 evaluations": flat_memory,
    "number of loader processes": workers,
}
