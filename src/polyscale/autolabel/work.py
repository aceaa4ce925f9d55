"""What one process of a run does: the first pass that chooses thresholds, and the labelling.

Unusual here: the processes of one run share nothing but the folder. Each takes every n-th chunk of what is left to do
and keeps a journal; the first one settles the folder when all have ended.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from polyscale.autolabel.folder import Description, forget_journals, is_data_set_of, label_files, write_data_set
from polyscale.autolabel.label import Facts, write_labels
from polyscale.autolabel.pipeline import Loaded, Pipeline, Timing, chunks_of
from polyscale.autolabel.records import Journal, Ledger, read_journals, stamp_of
from polyscale.autolabel.rules import Rules
from polyscale.autolabel.settings import AutolabelConfig
from polyscale.autolabel.source import CoarseLabels, Source
from polyscale.autolabel.summary import Summary, Totals
from polyscale.autolabel.teacher import Teacher
from polyscale.autolabel.thresholds import NUM_BINS, histogram
from polyscale.data.images import read_image
from polyscale.data.items import DataError
from polyscale.data.layout import first_three
from polyscale.errors import UserError
from polyscale.processes import wait_for_all

__all__ = ["Progress", "Work"]

Progress = Callable[[str, int, int], None]
"""Called with (what is being done, how many are done, how many in all)."""


@dataclass
class Work:
    """The parts of a run, in one process.

    Attributes:
        out: the output folder.
        source: the images.
        teacher: the network.
        config: settings.
        coarse: coarse labels, where there are any.
        rules: what decides a label beside the thresholds.
        batch: images of one size that the network sees together.
        workers: threads that load, and as many that write.
        replace: remove labels of images that are not among those given.
        report: called with one line for each image that is skipped.
    """

    out: Path
    source: Source
    teacher: Teacher
    config: AutolabelConfig
    coarse: CoarseLabels | None
    rules: Rules
    batch: int
    workers: int
    replace: bool
    report: Callable[[str], None] | None

    def label(self, description: Description, rank: int, world: int, progress: Progress) -> Summary:
        """Label what is not done, and settle the folder."""
        totals = Totals()
        ledger = Ledger(self.out, totals.add if rank == 0 else None)
        foreign = sorted(name for name in ledger.entries if name not in self.source.paths)
        if foreign and not self.replace:
            raise UserError(
                f"{self.out} holds labels of {len(foreign)} images that are not among those given: "
                f"{first_three(foreign)}; give these too, choose another folder, or remove them with --replace"
            )
        names = list(self.source.paths)
        digest, kinds = description.digest, description.kinds
        open_names = {
            name
            for name, path in self.source.paths.items()
            if name not in ledger.entries
            or not ledger.entries[name].holds(self.out, name, path, self._coarse_path(name), digest, kinds)
        }
        wait_for_all()  # nobody writes while others still look
        timing, failures = Timing(), {}
        if open_names:
            journal = Journal(self.out, rank)

            def finish(image: Loaded, classes: np.ndarray[Any, Any], found: np.ndarray[Any, Any]) -> None:
                try:
                    coarse = self._coarse(image)
                except DataError as error:
                    fail(image.name, str(error))
                    return
                candidates = self.rules.candidates(classes, coarse)
                path = self._coarse_path(image.name)
                file = self.source.paths[image.name].relative_to(self.source.root).as_posix()
                facts = Facts(image.name, file, image.stamp, None if path is None else stamp_of(path))
                journal.write(write_labels(self.out, facts, description, candidates, found, classes, coarse))

            def fail(name: str, reason: str) -> None:
                for _, path in label_files(self.out, name):
                    path.unlink(missing_ok=True)
                failures[name] = reason
                journal.write({"image": name, "error": reason})
                self._tell(name, reason)

            chunks = [part for part in chunks_of(names, self.batch) if not open_names.isdisjoint(part)][rank::world]
            mine = sum(name in open_names for part in chunks for name in part)
            timing = self._run(chunks, open_names, finish, fail, "labelling", mine, progress)
            journal.close()
        wait_for_all()
        settled = not open_names and not foreign and ledger.settled
        if rank == 0 and not (settled and is_data_set_of(self.out, self.source.template, names)):
            totals = self._settle(foreign)
            failures = dict(totals.failures)
        return Summary(
            self.out,
            timing.num_images,
            totals.num_images,
            failures,
            totals,
            description.thresholds or {},
            description.label_space,
            timing,
        )

    def _settle(self, foreign: list[str]) -> Totals:
        """Make of all journals the finished folder; in one process, when all others have ended."""
        totals = Totals()
        ledger = Ledger(self.out)
        for name in foreign:
            for _, path in label_files(self.out, name):
                path.unlink(missing_ok=True)
        labelled = ledger.settle(self.out, list(self.source.paths), totals.add)
        write_data_set(self.out, self.source.template, labelled)
        forget_journals(self.out)
        totals.failures = {name: reason for name, reason in ledger.failures.items() if name in self.source.paths}
        return totals

    def count(self, rank: int, world: int, progress: Progress) -> np.ndarray[Any, np.dtype[np.int64]]:
        """The first pass, where thresholds are to be chosen: confidence by class over a sample of the images.

        Raises:
            UserError: none of these images can be used.
        """
        names = list(self.source.paths)
        number = min(self.config.keep_sample, len(names))
        sample = [names[position * len(names) // number] for position in range(number)]
        counted = {line["image"] for line in read_journals(self.out, "histograms") if "error" not in line}
        wait_for_all()
        left = {name for name in sample if name not in counted}
        journal = Journal(self.out, rank, "histograms")

        def finish(image: Loaded, classes: np.ndarray[Any, Any], found: np.ndarray[Any, Any]) -> None:
            try:
                coarse = self._coarse(image)
            except DataError as error:
                skip(image.name, str(error))  # the second pass tells it
                return
            counts = histogram(self.rules.candidates(classes, coarse), found, self.teacher.label_space.num_classes)
            filled = np.flatnonzero(counts)
            journal.write({"image": image.name, "bins": filled.tolist(), "pixels": counts.ravel()[filled].tolist()})

        def skip(name: str, reason: str) -> None:
            journal.write({"image": name, "error": reason})

        chunks = [part for part in chunks_of(sample, self.batch) if not left.isdisjoint(part)][rank::world]
        mine = sum(name in left for part in chunks for name in part)
        self._run(chunks, left, finish, skip, "choosing thresholds", mine, progress)
        journal.close()
        wait_for_all()
        num_classes = self.teacher.label_space.num_classes
        total = np.zeros(num_classes * NUM_BINS, dtype=np.int64)
        seen: set[str] = set()
        errors: dict[str, str] = {}
        for line in read_journals(self.out, "histograms"):
            if "error" in line:
                errors[line["image"]] = line["error"]
            elif line["image"] not in seen:  # a kill may have left an image in two journals
                seen.add(line["image"])
                total[line["bins"]] += np.array(line["pixels"], dtype=np.int64)
        if not seen:
            raise UserError(
                f"none of the {number} images from which thresholds are chosen can be used: {errors[min(errors)]}"
            )
        return total.reshape(num_classes, NUM_BINS)

    def _run(
        self,
        chunks: list[tuple[str, ...]],
        wanted: set[str],
        finish: Callable[[Loaded, Any, Any], None],
        fail: Callable[[str, str], None],
        what: str,
        total: int,
        progress: Progress,
    ) -> Timing:
        done, lock = 0, Lock()

        def advance() -> None:
            nonlocal done
            with lock:
                done += 1
                progress(what, done, total)

        progress(what, 0, total)
        pipeline = Pipeline(self.teacher, self._load, finish, fail, self.batch, self.workers)
        return pipeline.run(chunks, wanted.__contains__, advance)

    def _load(self, name: str) -> Loaded:
        path = self.source.paths[name]
        pixels = read_image(path)
        frame = self.rules.frame
        if frame is not None and frame.shape != pixels.shape[:2]:
            raise DataError(
                f"{path} is {pixels.shape[1]} x {pixels.shape[0]} pixels, but the frame mask is "
                f"{frame.shape[1]} x {frame.shape[0]}; label images of one size at a time"
            )
        try:
            return Loaded(name, pixels, stamp_of(path))
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror or error}; replace or remove it") from None

    def _coarse(self, image: Loaded) -> np.ndarray[Any, Any] | None:
        return None if self.coarse is None else self.coarse.read(image.name, image.pixels.shape[:2])

    def _coarse_path(self, name: str) -> Path | None:
        return None if self.coarse is None else self.coarse.path(name)

    def _tell(self, name: str, reason: str) -> None:
        if self.report is not None:
            self.report(f"skipped: {reason if str(self.source.paths[name]) in reason else f'{name}: {reason}'}")
