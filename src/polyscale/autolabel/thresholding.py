"""Thresholding again: masks by other thresholds from stored candidates and confidence, without the teacher.

Unusual here: it is as safe to kill as labelling. The folder's description is changed first, so that images of the old
thresholds count as not done, and a second call with the same thresholds continues.
"""

import json
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from polyscale.autolabel.confidence import read_stored
from polyscale.autolabel.folder import (
    Description,
    clean,
    describe,
    forget_journals,
    label_files,
    locked,
    read_description,
    write_names,
)
from polyscale.autolabel.label import write_stored
from polyscale.autolabel.pipeline import Timing
from polyscale.autolabel.records import Journal, Ledger
from polyscale.autolabel.settings import AutolabelConfig, check_class_names
from polyscale.autolabel.summary import Summary, Totals
from polyscale.config import validate
from polyscale.errors import UserError

__all__ = ["rethreshold"]


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

    With ``confidence_stride`` 1 they are exactly those of a run with these thresholds; with more, borders between kept
    and ignored pixels may lie up to a stride less one further in. Confidence in the manifest is then the mean of the
    stored levels' lower bounds. An image whose stored files are damaged loses its label and is in ``failures``.

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
    description = read_description(folder)
    if not description.levels:
        raise UserError(f"{folder} was labelled without confidence maps; label again with --confidence")
    present = {} if threshold is not None or description.thresholds is None else description.thresholds
    config = validate(
        AutolabelConfig,
        {
            "threshold": description.settings["threshold"] if threshold is None else threshold,
            "class_thresholds": {**present, **(class_thresholds or {})},
            "min_region": description.settings["min_region"] if min_region is None else min_region,
        },
    )
    space = description.label_space
    check_class_names(config, space)
    levels = description.levels
    thresholds = {name: config.class_thresholds.get(name, config.threshold) for name in space.names}
    for value in thresholds.values():
        if value not in levels:
            allowed = ", ".join(f"{level:g}" for level in levels)
            raise UserError(f"threshold {value:g} is none of the stored levels; choose from {allowed}")
    changed = description._replace(
        thresholds=thresholds,
        settings={
            **{key: value for key, value in description.settings.items() if key not in ("keep", "class_keep")},
            "threshold": config.threshold,
            "class_thresholds": dict(config.class_thresholds),
            "min_region": config.min_region,
            "rethresholded": True,
        },
    )
    with locked(folder):
        clean(folder)
        ledger = Ledger(folder)
        if not ledger.entries or not (ledger.settled or description.settings.get("rethresholded")):
            raise UserError(
                f"labelling into {folder} has not ended; run the same `polyscale autolabel` command again first"
            )
        describe(folder, changed)
        return _rewrite(folder, changed, ledger, workers, progress, report)


def _rewrite(
    folder: Path,
    description: Description,
    ledger: Ledger,
    workers: int,
    progress: Callable[[int, int], None] | None,
    report: Callable[[str], None] | None,
) -> Summary:
    names = sorted(ledger.entries)
    digest = description.digest
    left = [name for name in names if not _holds(folder, name, ledger, digest)]
    journal = Journal(folder, 0)
    bounds = np.array(description.levels, dtype=np.float32)
    failures: dict[str, str] = {}

    def work(line: bytes) -> None:
        values: dict[str, Any] = json.loads(line)
        name = values["image"]
        try:
            candidates, found = read_stored(folder, name, description)
        except UserError as error:
            for _, path in label_files(folder, name):
                path.unlink(missing_ok=True)
            failures[name] = str(error)
            journal.write({"image": name, "error": failures[name]})
            if report is not None:
                report(f"skipped: {failures[name]}")
            return
        journal.write(write_stored(folder, values, description, candidates, bounds[found]))

    done = len(names) - len(left)
    running: deque[Future[None]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for line in ledger.lines(left):
                running.append(pool.submit(work, line))
                while len(running) > 4 * workers:
                    running.popleft().result()
                    done += 1
                    if progress is not None:
                        progress(done, len(names))
            for future in running:
                future.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    journal.close()
    if progress is not None:
        progress(len(names), len(names))
    totals = Totals()
    ledger = Ledger(folder)
    write_names(folder, ledger.settle(folder, {*names, *ledger.failures}, totals.add))
    forget_journals(folder)
    thresholds = description.thresholds or {}
    number = len(left) - len(failures)
    return Summary(folder, number, totals.num_images, failures, totals, thresholds, description.label_space, Timing())


def _holds(folder: Path, name: str, ledger: Ledger, digest: str) -> bool:
    entry = ledger.entries[name]
    if entry.digest != digest:
        return False
    path = next(path for _, path in label_files(folder, name))
    return path.is_file() and path.stat().st_size == entry.sizes[0]
