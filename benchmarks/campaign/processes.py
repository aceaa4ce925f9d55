"""Several processes (gloo, on the CPU): the numbers of one process, and an end for all where one is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from campaign import sound
from polyscale.config import dump_yaml

__all__ = ["CHECKS"]

LONGEST = 30.0
"""Seconds that the others may live on when one is killed."""

WORKER = """
import os, sys
from pathlib import Path
from polyscale.cli import main
Path(sys.argv[1], os.environ["RANK"]).write_text(str(os.getpid()))
sys.exit(main(sys.argv[2:]))
"""


def _world(root: Path) -> Path:
    if not (root / "data").exists():
        sound.squares(root / "data", (12, 4))
        sound.network(root / "net.safetensors")
        (root / "pids").mkdir()
        (root / "worker.py").write_text(WORKER)
        training = {"freeze_batchnorm": True, "ema_decay": None, "optimizer": {"kind": "sgd", "lr": 1.0}, "epochs": 1}
        values = sound.recipe_values(root / "data", **training) | {"sampling": {"fraction": 0}, "loss": {"main": "rmi"}}
        values["model"]["decoder"]["dropout"] = 0.0
        (root / "recipe.yaml").write_text(dump_yaml(values))
    return root


def _launch(root: Path, count: int, words: Sequence[str]) -> "subprocess.Popen[str]":
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)] if count > 1 else []
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    if count == 1:
        environment["RANK"] = "0"
    command = [sys.executable, *launcher, str(root / "worker.py"), str(root / "pids"), *words]
    return subprocess.Popen(
        command, cwd=root, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def _finish(root: Path, count: int, words: Sequence[str]) -> None:
    process = _launch(root, count, words)
    told = process.communicate()[1]
    if process.returncode:
        raise RuntimeError(told[-2000:])


def same_numbers(root: Path) -> dict[str, Any]:
    """Loss and gradients of one step on a batch of twelve; the gradient is what a step of known length changes."""
    from safetensors.torch import load_file

    root = _world(root)
    found = {}
    for count in (1, 2, 3, 4):
        _finish(root, count, ("train", "recipe.yaml", f"training.batch_size={12 // count}", "--out", f"trained{count}"))
        lines = [json.loads(line) for line in (root / f"trained{count}" / "log.jsonl").read_text().splitlines()]
        found[count] = (
            next(line for line in lines if "loss" in line),
            load_file(root / f"trained{count}" / "last.safetensors"),
        )
    (line, weights), wrong = found[1], []
    most_loss = most_gradient = 0.0
    for count in (2, 3, 4):
        other_line, other = found[count]
        loss = max(abs(other_line["loss"][key] - value) / abs(value) for key, value in line["loss"].items())
        gradient = max(float((other[name] - value).abs().max()) for name, value in weights.items()) / line["lr"]
        most_loss, most_gradient = max(most_loss, loss), max(most_gradient, gradient)
        if loss > 1e-5 or gradient > 1e-4 or not line["lr"]:
            wrong.append(f"{count} processes: loss differs by {loss:.1e} of it, a gradient by {gradient:.1e}")
    return {"processes": [2, 3, 4], "loss_differs_by": most_loss, "gradient_differs_by": most_gradient, "wrong": wrong}


def same_scores(root: Path) -> dict[str, Any]:
    """The confusion matrix of an evaluation, which is counted in whole numbers."""
    root, found = _world(root), {}
    for count in (1, 2, 3, 4):
        words = ("evaluate", "net.safetensors", "data", "--split", "val", "--out", f"scores{count}", "--device", "cpu")
        _finish(root, count, words)
        found[count] = json.loads((root / f"scores{count}" / "scores.json").read_text())["rows"]
    wrong = [f"{count} processes give other scores" for count in found if found[count] != found[1]]
    return {"processes": [2, 3, 4], "wrong": wrong}


def one_is_killed(root: Path) -> dict[str, Any]:
    """Of two processes one is killed: the other ends, and the launcher says which was killed."""
    root, wrong, longest = _world(root), [], 0.0
    words = ("train", "recipe.yaml", "training.epochs=5000", "training.batch_size=2", "--out", "ended")
    for victim in (0, 1):
        for path in (root / "pids").iterdir():
            path.unlink()
        process = _launch(root, 2, (*words, *(("--resume",) if victim else ())))
        log, begun = root / "ended" / "log.jsonl", time.time()
        while process.poll() is None and not (log.exists() and log.stat().st_mtime > begun and log.stat().st_size):
            time.sleep(0.05)
        os.kill(int((root / "pids" / str(victim)).read_text()), signal.SIGKILL)
        start = time.monotonic()
        told = process.communicate()[1]
        seconds = time.monotonic() - start
        longest = max(longest, seconds)
        if "SIGKILL" not in told:
            wrong.append(f"process {victim} killed: nothing says so: {told[-300:]}")
        if seconds > LONGEST:
            wrong.append(f"process {victim} killed: the other lived on for {seconds:.0f} s")
    return {"kills": 2, "seconds": round(longest, 1), "wrong": wrong}


CHECKS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "losses and gradients of 2, 3 and 4 processes": same_numbers,
    "scores of 2, 3 and 4 processes": same_scores,
    "one of two processes killed": one_is_killed,
}
