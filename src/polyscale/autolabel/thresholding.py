"""Other thresholds for a finished folder, from stored candidates and confidence, without the teacher.

It is as safe to kill as labelling. The folder's description is changed first, so masks of the old thresholds count as
not done, and a second call with the same thresholds continues.
"""

import contextlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from polyscale.autolabel import folder as output
from polyscale.autolabel.confidence import description_with_maps, read_stored
from polyscale.autolabel.folder import Description
from polyscale.autolabel.label import seen_again, write_labels
from polyscale.autolabel.pipeline import Timing, in_threads
from polyscale.autolabel.records import Failure, Journal, Record, latest_lines, parse_line, settle
from polyscale.autolabel.settings import AutolabelConfig, check_class_names
from polyscale.autolabel.summary import Summary, Totals
from polyscale.config import validate
from polyscale.errors import UserError

__all__ = ["rethreshold"]

_OF_THE_IMAGE = {"image", "file", "bytes", "modified", "sha256", "height", "width", "coarse"}


def rethreshold(
    folder: str | Path,
    threshold: float | None = None,
    class_thresholds: Mapping[str, float] | None = None,
    min_region: int | None = None,
    *,
    workers: int = 4,
    progress: Callable[[int, int], None] | None = None,
    report: Callable[[str], None] | None = None,
) -> Summary:
    """Give a folder the labels of other thresholds.

    With ``confidence_stride`` 1 they are exactly those of a run with these thresholds; with more, regions can stop up
    to a stride less one short. The manifest then holds the mean of the stored levels as confidence. An image whose
    stored files are damaged loses its label and is in ``failures``.

    Args:
        folder: that ``polyscale autolabel --confidence`` wrote.
        threshold: one of the stored levels, or 1, which keeps nothing but coarse labels; None keeps each class's.
        class_thresholds: others by class name, also of the stored levels.
        min_region: as in ``AutolabelConfig``; None keeps the folder's.
        workers: threads.
        progress: called with (images done, images in all).
        report: called with one line for each image that is skipped.

    Raises:
        UserError: the folder has no confidence maps, its run has not ended, or a threshold is none of the levels.
    """
    folder = Path(folder)
    changed = _with_thresholds(description_with_maps(folder), threshold, class_thresholds or {}, min_region)
    with output.locked(folder):
        output.clean(folder)
        lines = latest_lines(folder)
        # Journals are of a run that has not ended, or of a call like this one.
        unfinished = output.journals(folder) and not output.read_description(folder).file.settings.get("rethresholded")
        if unfinished or all(failed for _, failed in lines.values()):
            raise UserError(
                f"labelling into {folder} has not ended; run the same `polyscale autolabel` command again first"
            )
        output.describe(folder, changed)
        raw_lines = [raw for _, (raw, failed) in sorted(lines.items()) if not failed]
        num_written, totals = 0, Totals()
        with (
            contextlib.closing(Journal(folder, 0, report)) as journal,
            contextlib.closing(in_threads(partial(_rewrite, folder, changed), raw_lines, workers)) as results,
        ):
            for number, line in enumerate(results, start=1):
                if line is not None:
                    journal.write(line)
                    num_written += isinstance(line, Record)
                if progress is not None:
                    progress(number, len(raw_lines))
        output.write_names(folder, settle(folder, totals.add))
        output.forget_journals(folder)
    return Summary(folder, num_written, totals, journal.failures, changed, Timing())


def _with_thresholds(
    description: Description, threshold: float | None, class_thresholds: Mapping[str, float], min_region: int | None
) -> Description:
    """The description with other thresholds, each of them a stored level."""
    file, space = description.file, description.label_space
    present = {} if threshold is not None or file.thresholds is None else file.thresholds
    config = validate(
        AutolabelConfig,
        {
            "threshold": file.settings.get("threshold") if threshold is None else threshold,
            "class_thresholds": {**present, **class_thresholds},
            "min_region": file.settings.get("min_region") if min_region is None else min_region,
        },
    )
    check_class_names(config, space)
    thresholds = {name: config.class_thresholds.get(name, config.threshold) for name in space.names}
    for value in thresholds.values():
        if value not in file.levels:
            allowed = ", ".join(f"{level:g}" for level in file.levels)
            raise UserError(f"threshold {value:g} is none of the stored levels; choose from {allowed}")
    settings = {key: value for key, value in file.settings.items() if key not in ("keep", "class_keep")}
    settings |= {
        "threshold": config.threshold,
        "class_thresholds": dict(config.class_thresholds),
        "min_region": config.min_region,
        "rethresholded": True,
    }
    return description.with_thresholds(thresholds, settings)


def _rewrite(folder: Path, description: Description, raw: bytes) -> Record | Failure | None:
    """Write the mask of one image, by its present line; None where it is that of these thresholds already."""
    record = parse_line(raw)
    assert isinstance(record, Record)
    if record.holds(folder, description.digest, ("masks",)):
        return None
    try:
        candidates, found = read_stored(folder, record.image, description)
    except UserError as error:
        return Failure(image=record.image, error=str(error))
    facts = record.model_dump(exclude_unset=True, include=_OF_THE_IMAGE)
    confidence = np.array(description.file.levels, dtype=np.float32)[found]
    seen = seen_again(description.label_space, record)
    return write_labels(folder, facts, description, candidates, confidence, seen)
