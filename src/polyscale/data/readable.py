"""A quick check that every file of a data set can be read, before a long run relies on it."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from polyscale.data.file_data import FileData
from polyscale.data.finding import Finding, look_into
from polyscale.data.items import DataError, Item, SegmentationData
from polyscale.data.palettes import Palettes, palette_error, spread
from polyscale.data.parallel import Progress, in_parallel, pixels_of
from polyscale.errors import UserError
from polyscale.files import write_atomically

__all__ = ["check_files"]


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
        UserError: how many images cannot be used, and what is wrong with the first three; palettes of masks differ; or
            all pixels are ignored.
    """
    if not isinstance(data, FileData):
        return
    cache = None if cache_dir is None else Path(cache_dir) / f"checked-{_checksum([data.where, data.reading])}.json"
    good = _read_cache(cache)
    keys = [_file_key(item) for item in data.items]
    todo = [index for index, key in enumerate(keys) if key is None or key not in good]
    findings = list(
        in_parallel(
            todo,
            lambda index: look_into(data, index, count=False),
            workers,
            progress,
            lambda index: pixels_of(*data.items[index][1:]),
        )
    )
    if len(todo) == len(data) and not any(finding.labelled or finding.problems for finding in findings):
        raise DataError(
            f"no mask of {data.where} has a pixel that counts; check ids and ignore_ids of the label space",
            "ids",
        )
    if todo:
        _compare_palettes(data, dict(zip(todo, findings, strict=True)))
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


def _compare_palettes(data: FileData, findings: Mapping[int, Finding]) -> None:
    """Refuse masks whose palettes differ; a few of those that were found good before are compared too."""
    palettes = Palettes()
    before = [index for index in range(len(data)) if index not in findings]
    colors = {index: data.read_labels_and_colors(index)[1] for index in spread(before)}
    for index, found in (colors | {index: finding.colors for index, finding in findings.items()}).items():
        path = data.items[index].mask
        if path is not None and (problem := palettes.disagreement(path, found)) is not None:
            raise palette_error(data.where, problem)


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
