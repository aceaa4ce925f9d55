"""Reads a whole data set and reports damaged files, files that do not fit, and the contents.

Duplicates are found by a hash of the *decoded* pixels, so a copy in another file format counts. Images of two splits
that are equal are an error ("leak"), since scores on such a split mean nothing; near copies, such as neighbouring
frames of a video, are not found.
"""

from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np

from polyscale.data.check_report import ClassRow, DataReport, Problem, sort_problems
from polyscale.data.file_data import FileData
from polyscale.data.finding import Finding, look_into
from polyscale.data.items import SegmentationData
from polyscale.data.layout import first_three
from polyscale.data.palettes import Palettes
from polyscale.data.parallel import Progress, in_parallel, pixels_of

__all__ = ["check_data", "check_splits"]

RARE_FRACTION = 5e-4
"""A class with a smaller share of the labelled pixels is called rare."""

RARE_IMAGES = 0.01
"""A class in a smaller share of the images is called rare."""


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
    findings: dict[str, list[Finding]] = {name: [] for name in splits}
    palettes = Palettes()  # of all splits: a network that learns from one is scored on another

    def look(job: tuple[str, int]) -> Finding:
        return look_into(splits[job[0]], job[1])

    def pixels(job: tuple[str, int]) -> int:
        data = splits[job[0]]
        return pixels_of(*data.items[job[1]][1:]) if isinstance(data, FileData) else 0

    for (name, index), finding in zip(jobs, in_parallel(jobs, look, workers, progress, pixels), strict=True):
        item = splits[name].items[index]
        problem = None if item.mask is None else palettes.disagreement(item.mask, finding.colors)
        if problem is not None:
            finding = finding._replace(problems=(*finding.problems, Problem("palette", item.name, problem)))
        findings[name].append(finding)
    owners: dict[bytes, list[tuple[str, str]]] = {}
    for name, found in findings.items():
        for item, finding in zip(splits[name].items, found, strict=True):
            if finding.digest is not None:
                owners.setdefault(finding.digest, []).append((name, item.name))
    return {name: _report(name, data, findings[name], _copies(name, owners)) for name, data in splits.items()}


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


def _report(name: str, data: SegmentationData, findings: list[Finding], copies: Iterator[Problem]) -> DataReport:
    problems = [problem for finding in findings for problem in finding.problems]
    num_usable = sum(finding.usable for finding in findings)
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
        root=f"{data.root}/" if isinstance(data, FileData) and data.root is not None else "",
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
