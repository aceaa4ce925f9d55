"""Prediction of files: collect images, predict each, write the results under names that mirror the inputs'.

An image that cannot be read is reported and the rest goes on, but a result that cannot be written stops
the run, as the next one could not be written either. A folder of results carries ``predictions.yaml``, by which a
later run tells them from files that it must not replace.
"""

import contextlib
import functools
import glob
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import polyscale
from polyscale.config import dump_yaml, read_yaml
from polyscale.data.images import IMAGE_SUFFIXES
from polyscale.data.items import DataError
from polyscale.errors import UserError
from polyscale.files import check_folder, refuse_address, remove_leftovers, walk_files, write_atomically
from polyscale.inference.prediction import OUTPUTS, check_outputs
from polyscale.inference.predictor import Predictor
from polyscale.inference.way import Found, Way
from polyscale.tiles import Tiles

__all__ = ["Failure", "Found", "Summary", "find_images", "predict_files"]

MARK = "predictions.yaml"


class Failure(NamedTuple):
    """One image that could not be predicted."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Summary:
    """Summary of a run."""

    folder: Path
    written: tuple[Found, ...]
    failures: tuple[Failure, ...]


def predict_files(
    predictor: Predictor,
    paths: Sequence[str | Path],
    out: str | Path,
    scales: Sequence[float] | None = None,
    flip: bool = False,
    outputs: Sequence[str] = OUTPUTS,
    progress: Callable[[int, int], None] | None = None,
    report: Callable[[str], None] | None = None,
    tiles: Tiles | None = None,
    bands: Sequence[int] | None = None,
    told: Callable[[str], None] | None = None,
    tile_progress: Callable[[int, int], None] | None = None,
) -> Summary:
    """Predict image files and write the results as ``Prediction.save`` does, with sub-folders kept.

    Beside the results lie ``label_space.yaml`` (with it the label pictures are a data set's masks) and
    ``predictions.yaml`` (how they were made). Results of an earlier run are replaced, where its ids meant the same.

    Args:
        predictor: the network.
        paths: files, folders (searched to any depth) and glob patterns.
        out: folder of the results.
        scales: as for ``Predictor.predict``.
        flip: as for ``Predictor.predict``.
        outputs: which of ``OUTPUTS``.
        progress: called with (how many are done, how many in all).
        report: called with one line for each image that is skipped, when that happens.
        tiles: how images are cut that are larger than a tile; None cuts those that do not fit into memory, and a tile
            of 0 pixels none.
        bands: of TIFF files, three that become red, green and blue, counted from 1.
        told: called with one line for each image that does not fit into memory and is looked at in tiles.
        tile_progress: called with (how many tiles of an image are done, how many in all).

    Returns:
        What was written, and what was skipped and why.

    Raises:
        UserError: no image found, a path that does not exist, scales or outputs that are not allowed, a folder with
            other files or with results of another label space, or a result that cannot be written.
    """
    check_outputs(outputs)
    chosen = predictor.looker.choose(scales)
    out = Path(out)
    if tiles is not None and tiles.tile:
        tiles.check()
    found = find_images(paths, out)
    check_folder(out)
    for folder in {(out / kind / item.name).parent for item in found for kind in outputs}:
        remove_leftovers(folder)
    _refuse_foreign(out, outputs, predictor)
    way = Way(predictor, out, chosen, flip, outputs, tiles, bands, told, tile_progress)
    written: list[Found] = []
    failures: list[Failure] = []
    for number, item in enumerate(found, start=1):
        try:
            way.predict(item, functools.partial(_describe, out, predictor, chosen, flip) if not written else None)
        except DataError as error:
            failures.append(Failure(item.path, str(error)))
            if report is not None:
                named = str(error) if str(item.path) in str(error) else f"{item.path}: {error}"
                report(f"skipped: {named}")
        else:
            written.append(item)
        if progress is not None:
            progress(number, len(found))
    if not written:
        _remove_empty(out, outputs)
    return Summary(out, tuple(written), tuple(failures))


def _remove_empty(out: Path, outputs: Sequence[str]) -> None:
    """Remove the folders that a failed run made."""
    for folder in (*(out / kind for kind in outputs), out):
        with contextlib.suppress(OSError):
            folder.rmdir()


def find_images(paths: Sequence[str | Path], out: str | Path | None = None) -> list[Found]:
    """Find images and give each its results' name.

    A file counts whatever its suffix; in folders and patterns those with an image's suffix do, without hidden ones
    and without the results of an earlier run. Where two images would have one name (``a.jpg`` and ``a.png``), their
    names keep the suffix; where that is not enough (the same name in two of the folders given), the folder's name
    comes first; and at last a number is added.

    Args:
        paths: files, folders and glob patterns (``**`` for any depth).
        out: folder of the results, whose sub-folders of results are not searched.

    Returns:
        Images in the order given, those of a folder sorted; each once.

    Raises:
        UserError: a path does not exist, or there is no image.
    """
    closed = [] if out is None else [(Path(out) / name).resolve() for name in OUTPUTS]
    files: dict[Path, tuple[Path, Path]] = {}
    for given in paths:
        for path, root in _expand(str(given), closed):
            files.setdefault(path.resolve(), (path, root))
    if not files:
        listed = ", ".join(str(path) for path in paths) or "(no path given)"
        raise UserError(
            f"no image found in {listed}; files with one of the suffixes {' '.join(IMAGE_SUFFIXES)} are looked for"
        )
    return [Found(path, name) for (path, _), name in zip(files.values(), _names(list(files.values())), strict=True)]


def _expand(given: str, closed: Sequence[Path]) -> list[tuple[Path, Path]]:
    """Files that one argument stands for, each with the folder that its name is relative to."""
    path = Path(given)
    if path.is_dir():
        return [(file, path) for file in _walk(path, closed)]
    if path.exists():
        return [(path, path.parent)]
    refuse_address(given)
    if not glob.has_magic(given):
        raise UserError(
            f"no such file or folder: {path}; give image files, folders or patterns such as 'images/**/*.jpg'"
        )
    root = Path(*_before_magic(path.parts))
    files: list[Path] = []
    for match in map(Path, sorted(glob.glob(given, recursive=True))):  # noqa: PTH207 - Path.glob takes no absolute ones
        if match.is_dir():
            files += _walk(match, closed)
        elif _is_image(match) and not _inside(match, closed):
            files.append(match)
    if not files:
        raise UserError(f"no image matches {given!r}; in quotes, * stands for any name and ** for folders of any depth")
    return [(file, root) for file in files]


def _walk(folder: Path, closed: Sequence[Path]) -> list[Path]:
    """Images below ``folder``, sorted."""
    if _inside(folder, closed):
        return []
    return sorted(folder / name for name in walk_files(folder, IMAGE_SUFFIXES, closed=closed))


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def _inside(path: Path, folders: Sequence[Path]) -> bool:
    return any(path.resolve().is_relative_to(folder) for folder in folders)


def _before_magic(parts: Sequence[str]) -> list[str]:
    """The leading parts of a pattern that hold no wildcard."""
    fixed: list[str] = []
    for part in parts[:-1]:
        if glob.has_magic(part):
            break
        fixed.append(part)
    return fixed


def _names(files: Sequence[tuple[Path, Path]]) -> list[str]:
    """A unique name for each (file, root), as short as the others allow; see ``find_images``."""
    levels: list[list[str]] = []
    for number, (path, root) in enumerate(files, start=1):
        below = PurePosixPath(path.relative_to(root).as_posix())
        parent = PurePosixPath(root.resolve().name or "root")
        levels.append([str(below.with_suffix("")), str(below), str(parent / below), f"{parent / below}-{number}"])
    chosen = [0] * len(levels)
    while True:
        owners: dict[str, list[int]] = {}
        for index, level in enumerate(chosen):
            # Many file systems take A.png and a.png for one file.
            owners.setdefault(levels[index][level].casefold(), []).append(index)
        doubled = [index for group in owners.values() if len(group) > 1 for index in group]
        if not doubled:
            return [levels[index][level] for index, level in enumerate(chosen)]
        for index in doubled:
            chosen[index] += 1
            if chosen[index] == len(levels[index]):
                levels[index].append(f"{levels[index][-1]}-{index + 1}")


def _refuse_foreign(out: Path, outputs: Sequence[str], predictor: Predictor) -> None:
    """Make sure that what a run will replace are results of an earlier one, and that their ids will mean the same."""
    if (out / MARK).exists():
        facts = read_yaml(out / MARK)
        if isinstance(facts, dict) and facts.get("label_space") not in (None, predictor.label_space.digest):
            raise UserError(
                f"{out} holds predictions of other classes than {predictor.label_space.name!r}; choose another folder"
            )
        return
    if (out / "label_space.yaml").exists():
        raise UserError(
            f"{out / 'label_space.yaml'} was written by no prediction and would be replaced; choose another folder"
        )
    for name in outputs:
        folder = out / name
        if folder.is_dir() and any(folder.iterdir()):
            raise UserError(f"{folder} holds files that no prediction wrote; choose another folder for the results")


def _describe(out: Path, predictor: Predictor, scales: Sequence[float], flip: bool) -> None:
    """Write how the results are made and what their ids mean; before the first of them, so that none is without."""
    facts = {
        "written_by": f"polyscale {polyscale.__version__}",
        "method": predictor.model.method,
        "scales": sorted(scales),
        "flip": flip,
        "adaptive": getattr(predictor.model, "sure", None),
        "label_space": predictor.label_space.digest,
    }
    with write_atomically(out / MARK) as temporary:
        temporary.write_text(dump_yaml(facts), encoding="utf-8")
    predictor.label_space.to_yaml(out / "label_space.yaml")
