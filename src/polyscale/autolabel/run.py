"""Auto-labelling from end to end: find the images, claim the folder, choose thresholds, label."""

import contextlib
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np

from polyscale.autolabel.folder import Description, claim, clean, describe, locked, read_description
from polyscale.autolabel.records import Ledger, file_digest
from polyscale.autolabel.rules import rules_of
from polyscale.autolabel.settings import AutolabelConfig, check_class_names
from polyscale.autolabel.source import CoarseLabels, find_source
from polyscale.autolabel.summary import Summary
from polyscale.autolabel.teacher import Teacher
from polyscale.autolabel.thresholds import choose_thresholds
from polyscale.autolabel.work import Progress, Work
from polyscale.data.images import open_image
from polyscale.errors import UserError
from polyscale.files import check_folder
from polyscale.processes import joined, local_device, wait_for_all

__all__ = ["autolabel"]


def autolabel(
    teacher: str | Path,
    images: str | Path,
    out: str | Path,
    config: AutolabelConfig | None = None,
    *,
    coarse: str | Path | None = None,
    frame: str | Path | None = None,
    device: str | None = None,
    trust: Collection[str] = (),
    batch: int = 1,
    workers: int = 4,
    replace: bool = False,
    progress: Progress | None = None,
    report: Callable[[str], None] | None = None,
) -> Summary:
    """Label images with a trained network (arXiv:2005.10821, section 3.3).

    The folder becomes a data set that ``open_data`` reads. A second call does only what is missing: an image is done
    where teacher, settings and the image's content are those of its line in the manifest. After any number of kills the
    folder is, byte for byte, that of an uninterrupted run with the same ``batch`` and device. Under ``torchrun`` the
    processes share the images; all must see the folder.

    Args:
        teacher: a Polyscale checkpoint.
        images: a folder, a text file with one image path a line, or a data set (see ``source.find_source``).
        out: folder of the labels.
        config: settings; the article's by default.
        coarse: data set of coarse labels; its items have the images' names.
        frame: picture of the pixels that may be labelled: others (0) are ignored. For images of its size only.
        device: as for ``polyscale.load``.
        trust: as for ``polyscale.load``.
        batch: images of one size that the network sees together.
        workers: threads that load, and as many that write.
        replace: remove labels of another teacher, other settings or other images from ``out``.
        progress: called while it goes on.
        report: called with one line for each image that is skipped, when that happens, and for a list with repetitions.

    Returns:
        What was done. Images that cannot be used are in ``failures``.

    Raises:
        UserError: no images, a folder that holds something else, classes that do not fit, or a file that cannot be
            written.
    """
    config = config or AutolabelConfig()
    if batch < 1 or workers < 1:
        raise UserError(f"batch and workers must be 1 or more, got {batch} and {workers}")
    out = Path(out)
    source = find_source(images, out)
    check_folder(out)
    network = Teacher(teacher, config.scales, config.flip, local_device(device), config.precision, trust)
    space = network.label_space
    check_class_names(config, space)
    limits = CoarseLabels(coarse, space, list(source.paths)) if coarse is not None else None
    pixels = None if frame is None else _read_frame(Path(frame))
    settings = _facts(config, network, limits, None if frame is None else file_digest(Path(frame)))
    wanted = Description(
        network.fingerprint,
        settings,
        None if config.chooses else choose_thresholds(None, config, space),
        config.stored_levels if config.confidence else (),
        config.confidence_stride if config.confidence else None,
        space,
    )
    with joined() as (rank, world), contextlib.ExitStack() as stack:
        if rank == 0:
            stack.enter_context(locked(out))
            chooses = replace and config.chooses
            claim(out, wanted, replace, chooses and any(name not in source.paths for name in Ledger(out).entries))
            clean(out)
            if source.repeated and report is not None:
                report(f"{images} names {source.repeated} images more than once; each is labelled once")
        wait_for_all()
        description = read_description(out)
        work = Work(
            out, source, network, config, limits, rules_of(config, space, pixels), batch, workers, replace, report
        )
        notify = progress or (lambda *_: None)
        if description.thresholds is None:
            counts = work.count(rank, world, notify)
            if rank == 0:
                chosen = choose_thresholds(counts, config, space)
                describe(out, description._replace(thresholds=chosen))
            wait_for_all()
            description = read_description(out)
        return work.label(description, rank, world, notify)


def _facts(config: AutolabelConfig, teacher: Teacher, coarse: CoarseLabels | None, frame: str | None) -> dict[str, Any]:
    """All settings that decide a label, as plain values; those without effect are left out."""
    values = config.model_dump(mode="json")
    values["scales"] = sorted(teacher.scales)
    values["drop"] = sorted(config.drop)
    idle = []
    if coarse is None:
        idle += ["coarse", "class_coarse"]
    if not config.chooses:
        idle += ["keep", "class_keep", "keep_sample"]
    if not config.confidence:
        idle += ["levels", "confidence_stride"]
    values = {key: value for key, value in values.items() if key not in idle}
    values["coarse_labels"] = None if coarse is None else coarse.digest
    values["frame"] = frame
    return values


def _read_frame(path: Path) -> np.ndarray[Any, np.dtype[np.bool_]]:
    with open_image(path) as image:
        image.load()
        # Of a palette the index counts, as in masks; of colours the brightness.
        grey = image if image.mode in ("1", "L", "P") else image.convert("L")
        found: np.ndarray[Any, np.dtype[np.bool_]] = np.asarray(grey) != 0
    if not found.any():
        raise UserError(f"the frame mask {path} is 0 everywhere: nothing would be labelled; 0 means ignored")
    return found
