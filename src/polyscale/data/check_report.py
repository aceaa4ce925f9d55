"""The results of a check of a data set, as plain values: for JSON, for tables, and for a yes or no."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

__all__ = ["ClassRow", "DataReport", "Problem", "Table"]

ERRORS = ("unreadable", "missing", "size", "ids", "palette", "unlabelled", "leak")
"""Kinds of problems that make a data set unusable, in the order in which they are listed."""

WARNINGS = ("partial", "dark", "duplicate", "orphan", "ignored", "absent", "rare")
"""Kinds of problems that one should know of, in the order in which they are listed."""


_MOST_SIZES = 20


class Problem(NamedTuple):
    """One thing that is wrong or odd.

    Attributes:
        kind: ``unreadable``, ``missing`` (mask), ``size`` (mask and image differ), ``ids`` (outside the label space),
            ``palette`` (an id has other colours in other masks), ``unlabelled`` (the whole set), ``leak`` (an image
            that is also in another split); or, less grave, ``partial`` (bands, pages or frames that are not read),
            ``dark`` (image), ``duplicate`` (within the split), ``orphan`` (mask without image), ``ignored`` (mask
            without one pixel that counts), ``absent``, ``rare`` (class).
        name: of the item or the class, or the path of a file.
        message: one line.
        group: problems of one kind with equal texts here are shown as one.
    """

    kind: str
    name: str
    message: str
    group: str = ""

    @property
    def is_error(self) -> bool:
        """Whether it makes the data set unusable."""
        return self.kind in ERRORS


class ClassRow(NamedTuple):
    """How much there is of one class.

    Attributes:
        name: the class.
        pixels: how many pixels have it.
        fraction: share of all pixels of all masks, ignored ones included, 0 to 1.
        num_images: images with at least one such pixel.
    """

    name: str
    pixels: int
    fraction: float
    num_images: int


class Table(NamedTuple):
    """Text to print: a title, a header and rows of cells."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class DataReport:
    """The results of a check of one split.

    Attributes:
        name: of the data set or split.
        label_space: name of the label space.
        num_images: items in the list.
        num_usable: items without an error of their own.
        num_masks: masks that were read without an error.
        classes: a row for each class in the order of train ids.
        ignored: the same for ignored pixels.
        sizes: (height, width, number of images), the most frequent first.
        problems: errors first, kind by kind.
        root: the beginning of paths, which tables leave out.
    """

    name: str
    label_space: str
    num_images: int
    num_usable: int
    num_masks: int
    classes: tuple[ClassRow, ...]
    ignored: ClassRow
    sizes: tuple[tuple[int, int, int], ...]
    problems: tuple[Problem, ...]
    root: str = ""

    @property
    def usable(self) -> bool:
        """Whether one can train and score with it: no problem is an error."""
        return not any(problem.is_error for problem in self.problems)

    def count(self, kind: str) -> int:
        """Number of problems of a kind."""
        return sum(problem.kind == kind for problem in self.problems)

    def summary(self) -> str:
        """One line: how many images, usable or not, and how many problems of which kind."""
        kinds = [f"{self.count(kind)} {kind}" for kind in (*ERRORS, *WARNINGS) if self.count(kind)]
        verdict = "usable" if self.usable else "not usable"
        return f"{self.name}: {self.num_images} images, {verdict}" + (f" ({', '.join(kinds)})" if kinds else "")

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``json.dump``."""
        return {
            "name": self.name,
            "usable": self.usable,
            "label_space": self.label_space,
            "num_images": self.num_images,
            "num_usable": self.num_usable,
            "num_masks": self.num_masks,
            "classes": [row._asdict() for row in self.classes],
            "ignored": self.ignored._asdict(),
            "sizes": [{"height": height, "width": width, "num_images": n} for height, width, n in self.sizes],
            "problems": [
                {"kind": kind, "name": name, "message": message, "error": kind in ERRORS}
                for kind, name, message, _ in self.problems
            ],
        }

    def tables(self, most: int = 5) -> tuple[Table, ...]:
        """Tables of classes, image sizes and problems; those without rows are left out.

        Args:
            most: files or classes to name of each problem, before the rest is only counted.
        """
        classes = tuple(
            (row.name, f"{row.pixels:,}", f"{100 * row.fraction:.2f} %", str(row.num_images))
            for row in (*self.classes, self.ignored)
        )
        sizes = tuple((f"{width} x {height}", str(n)) for height, width, n in self.sizes[:_MOST_SIZES])
        if len(self.sizes) > _MOST_SIZES:
            rest = self.sizes[_MOST_SIZES:]
            sizes += ((f"{len(rest)} more sizes", str(sum(n for _, _, n in rest))),)
        groups: dict[tuple[str, str], list[Problem]] = {}
        for problem in self.problems:
            groups.setdefault((problem.kind, problem.group), []).append(problem)
        problems = [self._row(group, most) for group in groups.values()]
        tables = (
            Table(f"{self.name}: classes", ("class", "pixels", "of all pixels", "images with it"), classes),
            Table(f"{self.name}: image sizes", ("width x height", "images"), sizes),
            Table(f"{self.name}: problems", ("level", "kind", "how often", "the first of them"), tuple(problems)),
        )
        return tuple(table for table in tables if table.rows)

    def _row(self, group: Sequence[Problem], most: int) -> tuple[str, ...]:
        first, *others = group
        text = first.message.replace(self.root, "") if self.root else first.message
        names = [problem.name.removeprefix(self.root) for problem in others[: most - 1]]
        parts = [", ".join(names)] if names else []
        parts += [f"{len(others) - len(names)} more"] if len(others) > len(names) else []
        text += f"; likewise {' and '.join(parts)}" if parts else ""
        return "error" if first.is_error else "warning", first.kind, str(len(group)), text


def sort_problems(problems: Sequence[Problem]) -> tuple[Problem, ...]:
    """Errors first, kind by kind; within a kind in the order given."""
    order = {kind: position for position, kind in enumerate((*ERRORS, *WARNINGS))}
    return tuple(sorted(problems, key=lambda problem: order[problem.kind]))
