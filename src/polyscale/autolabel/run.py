"""Auto-labelling from end to end: find the images, take the folder, choose thresholds, label, settle.

The processes of one run share the folder and a few sums. Each takes every n-th part of what is left to do and keeps a
journal. The first one settles the folder when all have ended.
"""

import contextlib
import functools
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from polyscale.autolabel import folder
from polyscale.autolabel.confidence import write_stored
from polyscale.autolabel.folder import Description
from polyscale.autolabel.label import seen_classes, write_labels
from polyscale.autolabel.pipeline import Loaded, Looked, Result, Timing, chunks_of, in_threads, look
from polyscale.autolabel.records import Failure, Journal, Record, file_digest, read_lines, settle, stamp_of
from polyscale.autolabel.rules import NUM_BINS, Rules, choose_thresholds, histogram, rules_of
from polyscale.autolabel.settings import FORMAT, AutolabelConfig, check_class_names
from polyscale.autolabel.source import CoarseLabels, Source, find_source, read_frame
from polyscale.autolabel.summary import Summary, Totals
from polyscale.autolabel.teacher import Teacher
from polyscale.data.images import read_image
from polyscale.data.items import DataError
from polyscale.data.layout import first_three
from polyscale.errors import UserError
from polyscale.files import check_folder
from polyscale.processes import joined, local_device, sum_over_ranks, wait_for_all
from polyscale.tiles import Tiles

__all__ = ["Progress", "autolabel"]

Progress = Callable[[str, int, int], None]
"""Called with (the name of the step, number done, number in all)."""

Array = np.ndarray[Any, Any]


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

    The folder becomes a data set that ``open_data`` reads. A second call does only what is missing. An image is done
    where teacher, settings and the image's content are those of its line in the manifest, and its label files have the
    sizes that were written. After any number of kills the folder is, byte for byte, that of an uninterrupted run with
    the same ``batch`` and device. Under ``torchrun`` the processes share the images; all must see the folder.

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
        report: called with one line for each image that is skipped, and for a list that repeats images.

    Returns:
        The summary of the run. Images that cannot be used are in ``failures``.

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
    tiles = None
    if config.tile is not None:
        tiles = Tiles(config.tile, config.tile // 8 if config.overlap is None else config.overlap)
        tiles.check()
    network = Teacher(teacher, config.scales, config.flip, local_device(device), config.precision, trust, tiles)
    space = network.label_space
    check_class_names(config, space)
    limits = CoarseLabels(coarse, space, list(source.paths)) if coarse is not None else None
    pixels = None if frame is None else read_frame(Path(frame))
    settings = config.deciding(
        network.scales,
        None if limits is None else limits.digest,
        None if frame is None else file_digest(Path(frame)),
    )
    description = folder.DescriptionFile(
        format=FORMAT,
        teacher=folder.TeacherDescription(fingerprint=network.fingerprint),
        settings=settings,
        thresholds=None if config.chooses else choose_thresholds(None, config, space),
        confidence_levels=config.stored_levels if config.confidence else None,
        confidence_stride=config.confidence_stride if config.confidence else None,
    )
    with joined() as (rank, world), contextlib.ExitStack() as stack:
        if rank == 0:
            stack.enter_context(folder.locked(out))
            chooses_again = replace and config.chooses
            wanted = Description(description, space)
            folder.claim(out, wanted, replace, chooses_again and not _labelled(out).issubset(source.paths))
            folder.clean(out)
            if source.repeated and report is not None:
                report(f"{images} names {source.repeated} images more than once; each is labelled once")
        wait_for_all()
        claimed = folder.read_description(out)
        run = _Run(out, source, network, limits, rules_of(config, space, pixels), batch, workers, rank, world, progress)
        if claimed.file.thresholds is None:
            claimed = claimed.with_thresholds(choose_thresholds(run.count(config.keep_sample), config, space))
            if rank == 0:
                folder.describe(out, claimed)
        return run.label(claimed, replace, report)


def _labelled(out: Path) -> set[str]:
    return {line.image for _, line in read_lines(out) if isinstance(line, Record)}


@dataclass
class _Run:
    """The parts of a run, in one process."""

    out: Path
    source: Source
    teacher: Teacher
    coarse: CoarseLabels | None
    rules: Rules
    batch: int
    workers: int
    rank: int
    world: int
    progress: Progress | None

    def count(self, keep_sample: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Confidence by class, (C, NUM_BINS), over a sample of the images; the sum over all processes.

        Raises:
            UserError: none of these images can be used.
        """
        names = list(self.source.paths)
        number = min(keep_sample, len(names))
        sample = [names[position * len(names) // number] for position in range(number)]
        num_classes = self.teacher.label_space.num_classes

        def finish(looked: Looked) -> np.ndarray[Any, np.dtype[np.int64]]:
            candidates = self.rules.candidates(looked.classes, self._coarse_label(looked.image))
            return histogram(candidates, looked.confidence, num_classes)

        used, reason = torch.zeros(1, dtype=torch.int64), ""
        total = torch.zeros(num_classes, NUM_BINS, dtype=torch.int64)

        def take(result: np.ndarray[Any, Any] | Failure) -> None:
            nonlocal reason
            if isinstance(result, Failure):
                reason = reason or result.error  # labelling tells of each
            else:
                total.add_(torch.from_numpy(result))
                used.add_(1)

        self._work("choosing thresholds", sample, sample, finish, take)
        wait_for_all()
        sum_over_ranks([used, total], torch.device("cpu"))
        if not used:
            detail = f": {reason}" if reason else ""
            raise UserError(f"none of the {number} images from which thresholds are chosen can be used{detail}")
        return total.numpy()

    def label(self, description: Description, replace: bool, report: Callable[[str], None] | None) -> Summary:
        """Label the images that are not done, and settle the folder."""
        names, totals = list(self.source.paths), Totals()
        left, foreign = set(names), set[str]()
        for _, line in read_lines(self.out):
            if line.image not in self.source.paths:
                (foreign.discard if isinstance(line, Failure) else foreign.add)(line.image)
            elif isinstance(line, Record) and self._is_done(line, description):
                left.discard(line.image)
                totals.add(line)
            else:
                left.add(line.image)
        if foreign and not replace:
            raise UserError(
                f"{self.out} holds labels of {len(foreign)} images that are not among those given: "
                f"{first_three(sorted(foreign))}; give these too, choose another folder, or remove them with --replace"
            )
        settled = not (left or foreign or folder.journals(self.out) or (self.out / "failures.jsonl").exists())
        wait_for_all()  # nobody writes while others still look
        timing = Timing()
        if left:
            with contextlib.closing(Journal(self.out, self.rank, report)) as journal:
                finish = functools.partial(self._write, description)
                timing = self._work("labelling", names, left, finish, journal.write)
            totals.failures = journal.failures
        wait_for_all()
        if self.rank == 0:
            if not settled:
                totals = Totals()
                folder.remove_labels(self.out, foreign)
                names = settle(self.out, totals.add, names)
            folder.write_data_set(self.out, self.source.template, names)
            folder.forget_journals(self.out)
        return Summary(self.out, timing.num_images, totals, totals.failures, description, timing)

    def _work(
        self,
        what: str,
        names: list[str],
        wanted: Collection[str],
        finish: Callable[[Looked], Result],
        take: Callable[[Result | Failure], None],
    ) -> Timing:
        """Show this process's part of some images to the teacher.

        Args:
            what: for ``progress``.
            names: all images, as they are cut into batches.
            wanted: those of them that are to be finished.
            finish: what to do with each, in a thread; a ``DataError`` makes it a failure.
            take: called in this thread with what that returned, or with the failure.
        """
        timing, wanted = Timing(), set(wanted)
        chunks = [chunk for chunk in chunks_of(names, self.batch) if not wanted.isdisjoint(chunk)]
        chunks = chunks[self.rank :: self.world]
        total = sum(name in wanted for chunk in chunks for name in chunk)

        def timed(looked: Looked | Failure) -> tuple[Result | Failure, float]:
            started = time.perf_counter()
            if isinstance(looked, Failure):
                return looked, 0.0
            try:
                return finish(looked), time.perf_counter() - started
            except DataError as error:
                return Failure(image=looked.image.name, error=str(error)), 0.0

        notify = self.progress or (lambda *_: None)
        notify(what, 0, total)
        started = time.perf_counter()
        seen = look(self.teacher, self._load, chunks, wanted, self.batch, self.workers, timing)
        with contextlib.closing(seen), contextlib.closing(in_threads(timed, seen, self.workers)) as results:
            for number, (result, seconds) in enumerate(results, start=1):
                take(result)
                timing.encoding += seconds
                timing.num_images += not isinstance(result, Failure)
                notify(what, number, total)
        timing.total = time.perf_counter() - started
        return timing

    def _write(self, description: Description, looked: Looked) -> Record:
        """Write the files of one image."""
        image, path = looked.image, self.source.paths[looked.image.name]
        coarse = self._coarse_label(image)
        candidates = self.rules.candidates(looked.classes, coarse)
        if description.file.levels:
            write_stored(self.out, image.name, description, candidates, looked.confidence)
        facts: dict[str, Any] = {"image": image.name, "file": path.relative_to(self.source.root).as_posix()}
        facts |= image.stamp.model_dump()
        facts["height"], facts["width"] = image.pixels.shape[:2]
        if (coarse_path := self._coarse_path(image.name)) is not None:
            facts["coarse"] = stamp_of(coarse_path)
        seen = seen_classes(description.label_space, looked.classes, coarse)
        return write_labels(self.out, facts, description, candidates, looked.confidence, seen)

    def _is_done(self, record: Record, description: Description) -> bool:
        if not record.holds(self.out, description.digest, description.kinds):
            return False
        coarse = self._coarse_path(record.image)
        if record.coarse is None or coarse is None:
            return record.coarse is None and coarse is None and record.stamp.fits(self.source.paths[record.image])
        return record.stamp.fits(self.source.paths[record.image]) and record.coarse.fits(coarse)

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

    def _coarse_label(self, image: Loaded) -> Array | None:
        return None if self.coarse is None else self.coarse.read(image.name, image.pixels.shape[:2])

    def _coarse_path(self, name: str) -> Path | None:
        return None if self.coarse is None else self.coarse.path(name)
