"""Turns a file of the authors, or of a project with the same networks, into an ordinary checkpoint.

Nothing but tensors is unpickled. PaddleSeg's files are pickles of arrays, and read without Paddle.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from polyscale.backbones.tensor_files import read_tensor_file, tensors_by_name
from polyscale.data.known_spaces import known_space
from polyscale.errors import UserError
from polyscale.labels import LabelSpace
from polyscale.models.build import ModelConfig
from polyscale.models.checkpoint import save_checkpoint
from polyscale.models.reference.layouts import to_reference
from polyscale.models.reference.load import load_reference
from polyscale.models.reference.network import describe
from polyscale.models.reference.numpy_pickle import read_array_pickle

__all__ = ["Imported", "import_reference", "read_tensors"]

_SPACES = {19: "cityscapes", 65: "mapillary-vistas-1.2"}


class Imported(NamedTuple):
    """The imported network's facts."""

    config: ModelConfig
    label_space: LabelSpace
    origin: str
    """The project whose names the tensors had."""
    exact: bool
    """Whether the network computes just what the origin's does; where not, its weights are a start for training."""


def import_reference(
    file: str | Path,
    out: str | Path,
    label_space: LabelSpace | None = None,
    scales: Sequence[float] | None = None,
) -> Imported:
    """Write the network in ``file`` as a Polyscale checkpoint.

    Args:
        file: ``.pth`` of NVIDIA/semantic-segmentation or HRNet-OCR, or ``.pdparams`` of PaddleSeg.
        out: the checkpoint to write.
        label_space: of the network's classes; None for Cityscapes where it has 19, Mapillary Vistas 1.2 where 65.
        scales: those of explicit attention where they are not the published ones, or of the pair that the network was
            trained with.

    Raises:
        UserError: the file cannot be read safely, holds no network that can be built here, has tensors without a place
            or lacks some, or the label space does not fit; one line.
    """
    file, out = Path(file), Path(out)
    if out.is_dir():
        raise UserError(f"{out} is a folder; name the file to write, for example {out / (file.stem + '.safetensors')}")
    layout = to_reference(read_tensors(file), str(file))
    label_space = _label_space(file, describe(layout.state, str(file), scales).num_classes, label_space)
    model = load_reference(layout.state, str(file), scales, layout.mean, layout.std)
    info = {"imported_from": file.name, "origin": layout.origin, "exact": layout.exact}
    save_checkpoint(out, model, label_space, info)
    return Imported(model.config, label_space, layout.origin, layout.exact)


def _label_space(file: Path, num_classes: int, given: LabelSpace | None) -> LabelSpace:
    """The one given, if it fits, or the public one with as many classes."""
    if given is None and num_classes not in _SPACES:
        raise UserError(
            f"{file} tells {num_classes} classes apart, and which they are it does not say; give their names with "
            "--label-space FILE.yaml"
        )
    space = known_space(_SPACES[num_classes]) if given is None else given
    if space.num_classes != num_classes:
        raise UserError(
            f"{file} tells {num_classes} classes apart, the label space {space.name!r} has {space.num_classes}; "
            "give the one that it was trained with"
        )
    return space


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Name -> tensor of a ``.pth`` or ``.pdparams`` file; what else it holds is left out.

    Raises:
        UserError: the file is missing or damaged, asks for more than tensors, or holds none by name.
    """
    if not path.is_file():
        raise UserError(f"no such file: {path}" + ("; it is a folder, name the file in it" if path.is_dir() else ""))
    if path.suffix == ".pdparams":
        arrays = read_array_pickle(path)
        return tensors_by_name({name: torch.from_numpy(array.copy()) for name, array in arrays.items()}, path)
    return tensors_by_name(read_tensor_file(path), path)
