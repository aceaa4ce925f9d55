"""One-file checkpoints: safetensors, with configuration, label space and version in the metadata.

Loading a file never runs code from it. Equal networks give equal bytes.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

import polyscale
from polyscale.config import is_import_path, validate
from polyscale.errors import UserError
from polyscale.files import write_atomically
from polyscale.labels import LabelSpace
from polyscale.models.build import ModelConfig, build_model
from polyscale.models.finding import find_network
from polyscale.models.metadata import are_ours, pack, unpack
from polyscale.multiscale import MultiScale

__all__ = [
    "Checkpoint",
    "Metadata",
    "check_trusted",
    "load_checkpoint",
    "read_metadata",
    "read_weights",
    "save_checkpoint",
]


class Metadata(NamedTuple):
    """What a checkpoint says of itself."""

    config: ModelConfig
    label_space: LabelSpace
    version: str
    """The Polyscale that wrote it."""
    info: dict[str, Any]
    """Free facts of its training: epoch, scores, data."""


class Checkpoint(NamedTuple):
    """A network ready for use, in evaluation mode."""

    model: MultiScale
    config: ModelConfig
    label_space: LabelSpace
    info: dict[str, Any] = {}  # noqa: RUF012 - never changed
    """As in ``Metadata``."""


def save_checkpoint(
    path: str | Path,
    model: MultiScale,
    label_space: LabelSpace,
    info: dict[str, Any] | None = None,
    state: dict[str, torch.Tensor] | None = None,
    half: bool = False,
) -> None:
    """Write weights, configuration and label space as one safetensors file, in one step.

    Args:
        path: where to; missing folders are made.
        model: the network.
        label_space: of its classes.
        info: facts worth keeping, such as the epoch and its scores; anything JSON can hold.
        state: weights to store in place of the model's own (their moving average, for instance).
        half: store float16, which halves the file; loading gives float32 again.

    Raises:
        UserError: the file cannot be written, or the network was not built from a configuration.
    """
    if model.config is None:
        raise UserError("the network was not built from a configuration, so no checkpoint can hold it; use torch.save")
    weights = model.state_dict() if state is None else state
    tensors = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
    if half:
        tensors = {name: value.half() if value.is_floating_point() else value for name, value in tensors.items()}
    facts = {
        "version": polyscale.__version__,
        "config": model.config.model_dump(mode="json"),
        "label_space": label_space.model_dump(mode="json"),
        "info": info or {},
    }
    with write_atomically(path) as temporary:
        try:
            save_file(tensors, temporary, pack(facts))
        except SafetensorError as error:
            raise OSError(str(error)) from error


def read_metadata(path: str | Path) -> Metadata:
    """Read what a checkpoint says of itself, without its weights.

    Raises:
        UserError: no such file, or not a Polyscale checkpoint.
    """
    path = find_network(path)
    if _is_onnx(path):
        from polyscale.models.onnx_network import read_onnx_facts

        return _metadata(read_onnx_facts(path), path)
    try:
        path.open("rb").close()  # safetensors tells a file that may not be read as one that is not there
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except PermissionError:
        raise UserError(f"{path} may not be read: permission denied; change its permissions") from None
    except (SafetensorError, OSError) as error:
        if path.suffix.lower() in (".yaml", ".yml"):
            raise UserError(f"{path} is a YAML file; name the .safetensors file that training wrote") from None
        todo = (
            "; `polyscale import-reference` makes checkpoints of the .pth files that it knows"
            if path.suffix in (".pth", ".pt", ".pdparams")
            else ""
        )
        raise UserError(
            f"{path} is not a readable checkpoint ({' '.join(str(error).split())}); "
            f"Polyscale writes .safetensors files{todo}"
        ) from None
    if not are_ours(metadata):
        raise UserError(
            f"{path} is a safetensors file but not a Polyscale checkpoint; "
            "backbone weights alone go into model.backbone.pretrained"
        )
    try:
        facts = unpack(metadata)
    except (KeyError, AttributeError, TypeError, ValueError, RecursionError) as error:
        raise _unreadable(path, "?", error) from None
    return _metadata(facts, path)


def _metadata(facts: dict[str, Any], path: Path) -> Metadata:
    version = "?"
    try:
        version = str(facts["version"])
        config = facts["config"] or {}  # a module of your own was exported without
        config.get("backbone", {})["pretrained"] = False  # the file carries the weights; none are to be fetched
        return Metadata(
            validate(ModelConfig, config), validate(LabelSpace, facts["label_space"]), version, dict(facts["info"])
        )
    except (KeyError, AttributeError, TypeError, ValueError, RecursionError) as error:
        raise _unreadable(path, version, error) from None


def _unreadable(path: Path, version: str, error: Exception) -> UserError:
    reason = " ".join(str(error).split())[:300] or type(error).__name__
    return UserError(f"{path} was written by Polyscale {version[:40]} and cannot be read by this one: {reason}")


def _is_onnx(path: Path) -> bool:
    return path.suffix.lower() == ".onnx"


def read_weights(path: str | Path) -> dict[str, torch.Tensor]:
    """A checkpoint's tensors by their names in the network; versions before 0.2 put ``combined.`` before each."""
    path = find_network(path)
    if _is_onnx(path):
        raise UserError(f"{path} is an exported network, which is for use only; name the checkpoint it was made of")
    return {name.removeprefix("combined."): value for name, value in load_file(path).items()}


def check_trusted(config: ModelConfig, trust: Collection[str], path: str | Path) -> None:
    """Make sure that the user allows every part outside Polyscale that a file names, before any of it is imported.

    Raises:
        UserError: one is not in ``trust``.
    """
    foreign = config.foreign
    theirs = () if foreign is None else (foreign.build, foreign.logits or "")
    for name in (config.backbone.name, config.decoder.kind, *theirs):
        if is_import_path(name) and name not in trust:
            raise UserError(
                f"{path} needs {name}, which is not a part of Polyscale: loading it runs that module's code; if you "
                f"trust it, add --trust {name}, in Python trust=[{name!r}]"
            )


def load_checkpoint(path: str | Path, device: str | torch.device = "cpu", trust: Collection[str] = ()) -> Checkpoint:
    """Build the network that a checkpoint describes and load its weights; evaluation mode.

    Args:
        path: what ``find_network`` takes; an ``.onnx`` file of ``polyscale export`` gives a network that ONNX Runtime
            computes.
        device: of the network.
        trust: import paths (``package.module:Name``) of decoders and backbones outside Polyscale that may be built: a
            file alone never decides which code runs.

    Raises:
        UserError: no such file, not a Polyscale checkpoint, weights that do not fit its configuration, or a part that
            is not trusted.
    """
    if _is_onnx(found := find_network(path)):
        from polyscale.models.onnx_network import open_onnx

        network, facts = open_onnx(found)
        told = _metadata(facts, found)
        return Checkpoint(network.eval(), told.config, told.label_space, told.info)
    metadata = read_metadata(path)
    check_trusted(metadata.config, trust, path)
    model = build_model(metadata.config, metadata.label_space)
    try:
        model.load_state_dict(read_weights(path))
    except (RuntimeError, SafetensorError) as error:
        raise UserError(
            f"the weights in {path} do not fit its configuration: {' '.join(str(error).split())[:300]}"
        ) from None
    return Checkpoint(model.to(device).eval(), metadata.config, metadata.label_space, metadata.info)
