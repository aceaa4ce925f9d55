"""A step whose numbers are not finite: named, kept, replayed; and nothing sound is overwritten."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from polyscale.config import validate
from polyscale.errors import UserError
from polyscale.losses import Objective
from polyscale.training import ExperimentConfig, replay, train


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_step_that_diverges_is_named_and_can_be_replayed(
    recipe: dict[str, Any], tmp_path: Path, accumulate: int
) -> None:
    recipe["training"] |= {"optimizer": {"kind": "sgd", "lr": 1e30}, "log_every": 1000, "accumulate": accumulate}
    with pytest.raises(
        UserError, match=r"at step \d \(images \d\d, .*; failure\.pt .*holds the step\); lower"
    ) as caught:
        train(validate(ExperimentConfig, recipe), tmp_path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    kept = torch.load(tmp_path / "failure.pt", weights_only=True)
    assert f"at step {kept['step'] + 1} (images {', '.join(kept['batches'][0]['names'])}" in str(caught.value)
    assert kept["batches"][0]["images"].shape == (2, 3, 24, 32)
    results = replay(tmp_path / "failure.pt")
    assert len(results) == len(kept["batches"]) <= accumulate
    assert not math.isfinite(results[0]["total"]) or not math.isfinite(results[0]["gradient"])


def test_a_sound_network_stays_and_the_crops_are_those_of_the_step(
    config: ExperimentConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []
    forward = Objective.forward

    def failing(self: Objective, fused: Any, labels: torch.Tensor, weights: Any = None) -> dict[str, torch.Tensor]:
        seen.append(labels)
        terms = forward(self, fused, labels, weights)
        return {**terms, "total": terms["total"] * (math.nan if len(seen) == 8 else 1)}

    monkeypatch.setattr(Objective, "forward", failing)
    with pytest.raises(UserError, match="the loss is nan at step 8 "):
        train(config, tmp_path)
    monkeypatch.undo()
    kept = torch.load(tmp_path / "failure.pt", weights_only=True)
    assert torch.equal(kept["batches"][0]["labels"], seen[7])
    state = torch.load(tmp_path / "resume.pt", weights_only=True)
    assert state["step"] == 5
    assert all(value.isfinite().all() for value in kept["model"].values())
    assert math.isfinite(replay(tmp_path / "failure.pt")[0]["total"])  # the network was not at fault
    assert train(config, tmp_path, resume=True).steps == 15


def test_a_gradient_that_is_not_finite_is_told(
    config: ExperimentConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = Objective.forward

    def failing(self: Objective, *given: Any) -> dict[str, torch.Tensor]:
        total = forward(self, *given)["total"] * 1
        total.register_hook(lambda gradient: gradient * math.inf)
        return {"total": total}

    monkeypatch.setattr(Objective, "forward", failing)
    with pytest.raises(UserError, match="the gradient is not finite at step 1 "):
        train(config, tmp_path)


@pytest.mark.parametrize("content", [b"", b"hello", None])
def test_a_file_that_is_no_failure_is_told(tmp_path: Path, content: bytes | None) -> None:
    if content is None:
        torch.save({"config": "{}"}, tmp_path / "failure.pt")
    else:
        (tmp_path / "failure.pt").write_bytes(content)
    with pytest.raises(UserError, match=r"cannot read .*failure\.pt"):
        replay(tmp_path / "failure.pt")
