"""Summary of a run, and the table of classes at its end."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polyscale.autolabel.folder import KINDS, Description
from polyscale.autolabel.pipeline import Timing
from polyscale.autolabel.records import Failure, Record

__all__ = ["Summary", "Totals"]


class Totals:
    """Sums over the lines of a manifest.

    Attributes:
        num_images: images with labels.
        num_pixels: of these.
        num_bytes: of their label files, by the key in the manifest.
        classes: by class name, sums of the manifest's numbers of pixels; ``taught`` counts the labelled pixels whose
            label is the teacher's, and ``weighted`` is the sum of their confidence.
        failures: images without labels, and why.
    """

    def __init__(self) -> None:
        self.num_images = 0
        self.num_pixels = 0
        self.num_bytes: defaultdict[str, int] = defaultdict(int)
        self.classes: defaultdict[str, defaultdict[str, float]] = defaultdict(lambda: defaultdict(int))
        self.failures: dict[str, str] = {}

    def add(self, line: Record | Failure) -> None:
        """Add one image."""
        if isinstance(line, Failure):
            self.failures[line.image] = line.error
            return
        self.num_images += 1
        self.num_pixels += line.height * line.width
        for key in KINDS.values():
            if (size := getattr(line, key)) is not None:
                self.num_bytes[key] += size
        for name, values in line.classes.items():
            sums, taught = self.classes[name], values.labelled if values.taught is None else values.taught
            sums["labelled"] += values.labelled
            sums["predicted"] += values.predicted
            sums["coarse"] += values.coarse or 0
            sums["agreed"] += values.agreed or 0
            sums["taught"] += taught
            sums["weighted"] += taught * (values.confidence or 0)


@dataclass(frozen=True)
class Summary:
    """Summary of a run.

    Attributes:
        folder: of the labels.
        num_labelled: images labelled by this run (of this process, where there are several).
        totals: over all images of the folder.
        failures: images that were skipped, and why.
        description: of the folder.
        timing: of this process.
    """

    folder: Path
    num_labelled: int
    totals: Totals
    failures: Mapping[str, str]
    description: Description
    timing: Timing

    @property
    def num_done(self) -> int:
        """Images with labels in the folder now."""
        return self.totals.num_images

    @property
    def thresholds(self) -> Mapping[str, float]:
        """By class name."""
        return self.description.file.thresholds or {}

    def tables(self) -> list[tuple[str, list[str], list[list[Any]], str]]:
        """Title, headings, rows and note of the table by class, in percent of pixels."""
        totals = self.totals
        with_coarse = any(values["coarse"] for values in totals.classes.values())
        columns = ["class", "threshold", "teacher %", "labelled %", "kept %", "confidence %"]
        columns += ["coarse %", "agreed %"] if with_coarse else []
        everything: defaultdict[str, float] = defaultdict(int)
        rows: list[list[Any]] = []
        for name in self.description.label_space.names:
            values = totals.classes[name]
            for key, value in values.items():
                everything[key] += value
            rows.append([name, f"{self.thresholds[name]:.6g}", *self._cells(values, with_coarse)])
        rows.append(["all", "", *self._cells(everything, with_coarse)])
        note = (
            "teacher, labelled, coarse: of all pixels; kept: labelled against the teacher's; confidence: mean, of the "
            "teacher's pixels that are labelled" + ("; agreed: of the coarse pixels" if with_coarse else "")
        )
        return [(f"{totals.num_images} images in {self.folder}", columns, rows, note)]

    def _cells(self, values: Mapping[str, float], with_coarse: bool) -> list[float | None]:
        pixels = self.totals.num_pixels
        parts = [
            (values["predicted"], pixels),
            (values["labelled"], pixels),
            (values["labelled"], values["predicted"]),
            (values["weighted"], values["taught"]),
        ]
        if with_coarse:
            parts += [(values["coarse"], pixels), (values["agreed"], values["coarse"])]
        return [100 * part / whole if whole else None for part, whole in parts]

    @property
    def bytes_by_kind(self) -> dict[str, float]:
        """Mean size of an image's files in bytes: masks, and candidates and confidence where they are stored."""
        return {
            key.removesuffix("_bytes"): value / max(1, self.totals.num_images)
            for key, value in self.totals.num_bytes.items()
        }
