"""Reading a whole data set before it is relied upon: what is damaged, what does not fit, and what is in it.

Unusual here: threads, not processes, read the files: Pillow decodes outside the interpreter's lock. Duplicates are
found by a hash of the *decoded* pixels, so a copy in another file format counts. Images of two splits that are equal
are an error ("leak"), since scores on such a split mean nothing; near copies, such as neighbouring frames of a video,
are not found.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from polyscale.data.check_report import ClassRow, DataReport, Problem, sort_problems
from polyscale.data.folders import FileData
from polyscale.data.items import DataError, Item, SegmentationData
from polyscale.data.layout import first_three
from polyscale.errors import UserError
from polyscale.files import write_atomically
from polyscale.labels import IGNORE

__all__ = ["check_data", "check_files", "check_splits"]

DARK = 32
"""An image whose largest value is below it may hold 8 to 12 bits in a file of 16."""

RARE_FRACTION = 5e-4
"""A class with a smaller share of the labelled pixels is called rare."""

RARE_IMAGES = 0.01
"""A class in a smaller share of the images is called rare."""

Progress = Callable[[int, int], None]
Result = TypeVar("Result")


class _Finding(NamedTuple):
    """What reading one item gave; counts of train ids are (C + 1,), ignored pixels last."""

    problems: tuple[Problem, ...]
    size: tuple[int, int] | None = None
    digest: bytes | None = None
    counts: np.ndarray[Any, np.dtype[np.int64]] | None = None
    labelled: bool = False  # whether a pixel counts; not told where counts are
    brightest: int = 255  # the largest value of an image that was looked at


def check_data(
    data: SegmentationData,
    others: Mapping[str, SegmentationData] | None = None,
    *,
    name: str = "data",
    workers: int | None = None,
    progress: Progress | None = None,
) -> DataReport:
    """Read all of a data set and report what is in it and what is wrong with it.

    Args:
        data: the data set; opened with ``lenient`` if missing masks are to be reported rather than raised.
        others: other splits by name; they are read as well, to find images that are in both.
        name: what the data set is called in the report.
        workers: number of threads; by default one a core.
        progress: called with (images read, images in all).
    """
    splits = {name: data} | dict(others or {})
    return check_splits(splits, workers=workers, progress=progress)[name]


def check_splits(
    splits: Mapping[str, SegmentationData], *, workers: int | None = None, progress: Progress | None = None
) -> dict[str, DataReport]:
    """Check several splits, each read once, and report in each what it shares with another.

    Args:
        splits: data sets by the names that reports call them.
        workers: number of threads; by default one a core.
        progress: called with (images read, images in all).

    Returns:
        A report for each split; the data are usable where all are.
    """
    jobs = [(name, index) for name, data in splits.items() for index in range(len(data))]
    findings: dict[str, list[_Finding]] = {name: [] for name in splits}
    results = _in_parallel(jobs, lambda job: _inspect(splits[job[0]], job[1]), workers, progress)
    for (name, _), finding in zip(jobs, results, strict=True):
        findings[name].append(finding)
    owners: dict[bytes, list[tuple[str, str]]] = {}
    for name, found in findings.items():
        for item, finding in zip(splits[name].items, found, strict=True):
            if finding.digest is not None:
                owners.setdefault(finding.digest, []).append((name, item.name))
    return {name: _report(name, data, findings[name], _copies(name, owners)) for name, data in splits.items()}


def check_files(
    data: SegmentationData,
    progress: Progress | None = None,
    *,
    workers: int | None = None,
    cache_dir: Path | None = None,
) -> None:
    """Make sure that every file of a data set can be read and fits, before a long run relies on it.

    Data without files are not read.

    Args:
        data: the data set.
        progress: called with (images read, images in all).
        workers: number of threads; by default one a core.
        cache_dir: folder that remembers which files were found good, by path, size and time of change, so that the next
            start is quick.

    Raises:
        UserError: how many images cannot be used, and what is wrong with the first three; or all pixels are ignored.
    """
    if not isinstance(data, FileData):
        return
    cache = None if cache_dir is None else Path(cache_dir) / f"checked-{_checksum([data.where, data.reading])}.json"
    good = _read_cache(cache)
    keys = [_file_key(item) for item in data.items]
    todo = [index for index, key in enumerate(keys) if key is None or key not in good]
    findings = list(_in_parallel(todo, lambda index: _inspect(data, index, count=False), workers, progress))
    if len(todo) == len(data) and not any(finding.labelled or finding.problems for finding in findings):
        raise DataError(
            f"no mask of {data.where} has a pixel that counts; check ids and ignore_ids of the label space",
            "ids",
        )
    passed = {
        key for index, finding in zip(todo, findings, strict=True) if not finding.problems and (key := keys[index])
    }
    if cache is not None and passed:
        _write_cache(cache, (good | passed) & {key for key in keys if key})
    problems = [problem for finding in findings for problem in finding.problems]
    if problems:
        affected = len({problem.name for problem in problems})
        raise DataError(
            f"{affected} of {len(data)} images of {data.where} cannot be used: "
            + "; ".join(problem.message for problem in problems[:3])
            + ("; `polyscale data check` lists them all" if len(problems) > 3 else ""),
            problems[0].kind,
        )


def _in_parallel(
    jobs: list[Any], work: Callable[[Any], Result], workers: int | None, progress: Progress | None
) -> Iterator[Result]:
    """Results in the order of jobs; a failure or an interrupt does not wait for the rest."""
    pool = ThreadPoolExecutor(workers or _num_cores())
    try:
        for done, result in enumerate(pool.map(work, jobs), start=1):
            if progress is not None:
                progress(done, len(jobs))
            yield result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _num_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _inspect(data: SegmentationData, index: int, count: bool = True) -> _Finding:
    """Read one item and note all that is wrong with it: a damaged image does not hide a damaged mask."""
    item = data.items[index]
    problems: list[Problem] = []
    image = labels = None
    try:
        if isinstance(data, FileData):
            image = data.read_image(index)
        else:
            _, image, labels = data.read(index)
    except UserError as error:
        problems.append(_problem(item, error))
    if isinstance(data, FileData):
        try:
            labels = data.read_labels(index)
            if labels is None and data.masks_required:
                problems.append(Problem("missing", item.name, f"{item.image} has no mask"))
        except UserError as error:
            problems.append(_problem(item, error))
        if image is not None and labels is not None and labels.shape != image.shape[:2]:
            problems.append(Problem("size", item.name, data.size_message(index, image.shape[:2], labels.shape)))
    if not count or image is None:
        return _Finding(tuple(problems), labelled=labels is not None and bool((labels != IGNORE).any()))
    digest = hashlib.blake2b(str(image.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(image).data)
    size = (image.shape[0], image.shape[1])
    if labels is None or problems:
        return _Finding(tuple(problems), size, digest.digest())
    counts = np.bincount(labels.reshape(-1), minlength=IGNORE + 1)
    counts = np.append(counts[: data.label_space.num_classes], counts[IGNORE])
    return _Finding(tuple(problems), size, digest.digest(), counts, brightest=int(image.max()))


def _problem(item: Item, error: UserError) -> Problem:
    return Problem(error.kind if isinstance(error, DataError) else "unreadable", item.name, str(error))


def _copies(name: str, owners: Mapping[bytes, list[tuple[str, str]]]) -> Iterator[Problem]:
    """Images of a split that are equal to another one, in the same split or in another."""
    for copies in owners.values():
        here = [item for split, item in copies if split == name]
        elsewhere = [f"{item} of {split}" for split, item in copies if split != name]
        if not here:
            continue
        if elsewhere:
            where = first_three(elsewhere)
            for item in here:
                yield Problem("leak", item, f"{item} of {name} is the same image as {where}; leave it out of one split")
        for item in here[1:]:
            yield Problem("duplicate", item, f"{item} is the same image as {here[0]}")


def _report(name: str, data: SegmentationData, findings: list[_Finding], copies: Iterator[Problem]) -> DataReport:
    problems = [problem for finding in findings for problem in finding.problems]
    num_usable = sum(not finding.problems for finding in findings)
    counted = [finding.counts for finding in findings if finding.counts is not None]
    table = np.stack(counted) if counted else np.zeros((0, data.label_space.num_classes + 1), dtype=np.int64)
    pixels, images = table.sum(axis=0).tolist(), (table > 0).sum(axis=0).tolist()
    total = max(1, sum(pixels))
    rows = [
        ClassRow(title, pixels[position], pixels[position] / total, images[position])
        for position, title in enumerate((*data.label_space.names, "(ignored)"))
    ]
    problems += copies
    problems += (
        Problem("dark", item.name, f"{item.image} is dark: values 0 to {finding.brightest} of 255; 12 bits of 16?")
        for item, finding in zip(data.items, findings, strict=True)
        if finding.brightest < DARK
    )
    problems += (
        Problem("orphan", str(path), f"mask {path} belongs to no image") for path in getattr(data, "orphans", ())
    )
    problems += (
        Problem("ignored", item.name, f"{item.mask} has no pixel that counts: all are ignored")
        for item, finding in zip(data.items, findings, strict=True)
        if finding.counts is not None and not finding.counts[:-1].any()
    )
    if counted and sum(pixels[:-1]) == 0:
        problems.append(Problem("unlabelled", name, f"no mask of {name} has a pixel that counts"))
    elif counted:
        problems += _scarce(name, rows[:-1], len(counted))
    sizes = Counter(finding.size for finding in findings if finding.size is not None)
    return DataReport(
        name=name,
        label_space=data.label_space.name,
        num_images=len(data),
        num_usable=num_usable,
        num_masks=len(counted),
        classes=tuple(rows[:-1]),
        ignored=rows[-1],
        sizes=tuple((*size, n) for size, n in sorted(sizes.items(), key=lambda entry: (-entry[1], entry[0]))),
        problems=sort_problems(problems),
    )


def _scarce(name: str, rows: list[ClassRow], num_masks: int) -> Iterator[Problem]:
    """Classes of which there is nothing or little."""
    labelled = sum(row.pixels for row in rows)
    for row in rows:
        if row.pixels == 0:
            yield Problem(
                "absent", row.name, f"class {row.name!r} is in no mask of {name}; it cannot be learnt or scored there"
            )
        elif row.pixels < RARE_FRACTION * labelled or row.num_images < RARE_IMAGES * num_masks:
            share = (
                f"{100 * row.pixels / labelled:.3f} % of the labelled pixels, {row.num_images} of {num_masks} images"
            )
            yield Problem(
                "rare", row.name, f"class {row.name!r} is rare in {name}: {share}; consider class-uniform sampling"
            )


def _file_key(item: Item) -> str | None:
    """Fingerprint of an item's files as the file system sees them, or None where one is missing."""
    try:
        parts = [
            (str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in item[1:] if path is not None
        ]
    except OSError:
        return None
    return _checksum(parts)


def _checksum(values: Any) -> str:
    return hashlib.blake2b(json.dumps(values).encode(), digest_size=12).hexdigest()


def _read_cache(path: Path | None) -> set[str]:
    """Fingerprints found good before; none where the file is missing or damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8")) if path is not None else []
    except (OSError, ValueError):
        return set()
    return {key for key in content if isinstance(key, str)} if isinstance(content, list) else set()


def _write_cache(path: Path, keys: set[str]) -> None:
    try:
        with write_atomically(path) as temporary:
            temporary.write_text(json.dumps(sorted(keys)), encoding="utf-8")
    except UserError:
        return  # A folder that cannot be written costs time at the next start, no more.
