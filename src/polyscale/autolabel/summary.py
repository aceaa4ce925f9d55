"""What a run did, and the table of shares at its end."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from polyscale.autolabel.folder import KINDS
from polyscale.autolabel.pipeline import Timing
from polyscale.labels import LabelSpace

__all__ = ["Summary", "Totals"]


class Totals:
    """Pixels by class, summed over the lines of a manifest."""

    def __init__(self) -> None:
        self.num_images = 0
        self.num_pixels = 0
        self.num_bytes: dict[str, int] = {}
        self.classes: dict[str, dict[str, float]] = {}
        self.failures: dict[str, str] = {}

    def add(self, line: Mapping[str, Any]) -> None:
        """Add one image."""
        self.num_images += 1
        self.num_pixels += line["height"] * line["width"]
        for key in KINDS.values():
            if key in line:
                self.num_bytes[key] = self.num_bytes.get(key, 0) + line[key]
        for name, values in line["classes"].items():
            sums = self.classes.get(name)
            if sums is None:
                sums = self.classes[name] = dict.fromkeys(
                    ("labelled", "predicted", "coarse", "agreed", "weighted", "weight"), 0
                )
            taught, confidence = values.get("taught", values["labelled"]), values["confidence"]
            sums["labelled"] += values["labelled"]
            sums["predicted"] += values["predicted"]
            if "coarse" in values:
                sums["coarse"] += values["coarse"]
                sums["agreed"] += values["agreed"]
            if confidence is not None:
                sums["weighted"] += confidence * taught
                sums["weight"] += taught


@dataclass(frozen=True)
class Summary:
    """What a run did.

    Attributes:
        folder: of the labels.
        num_labelled: images labelled by this run (of this process, where there are several).
        num_done: images with labels in the folder now.
        failures: images that were skipped, and why.
        totals: over all images of the folder.
        timing: of this process.
        thresholds: by class name.
        label_space: of the labels.
    """

    folder: Path
    num_labelled: int
    num_done: int
    failures: Mapping[str, str]
    totals: Totals
    thresholds: Mapping[str, float]
    label_space: LabelSpace
    timing: Timing = field(default_factory=Timing)

    def tables(self) -> list[tuple[str, list[str], list[list[Any]], str]]:
        """Title, headings, rows and note of the table by class, in percent of pixels."""
        totals = self.totals
        with_coarse = any(values.get("coarse") for values in totals.classes.values())
        columns = ["class", "threshold", "teacher %", "labelled %", "kept %", "confidence %"]
        columns += ["coarse %", "agreed %"] if with_coarse else []
        rows: list[list[Any]] = []
        sums: dict[str, float] = {}
        for name in self.label_space.names:
            values = totals.classes.get(name, {})
            for key, value in values.items():
                sums[key] = sums.get(key, 0) + value
            rows.append([name, f"{self.thresholds[name]:.6g}", *self._cells(values, with_coarse)])
        rows.append(["all", "", *self._cells(sums, with_coarse)])
        note = (
            "teacher, labelled, coarse: of all pixels; kept: labelled against the teacher's; confidence: mean, of the "
            "teacher's pixels that are labelled" + ("; agreed: of the coarse pixels" if with_coarse else "")
        )
        return [(f"{totals.num_images} images in {self.folder}", columns, rows, note)]

    def _cells(self, values: Mapping[str, float], with_coarse: bool) -> list[Any]:
        def percent(part: float | None, whole: float | None) -> float | None:
            return 100 * (part or 0) / whole if whole else None

        pixels = self.totals.num_pixels
        cells = [
            percent(values.get("predicted"), pixels),
            percent(values.get("labelled"), pixels),
            percent(values.get("labelled"), values.get("predicted")),
            percent(values.get("weighted"), values.get("weight")),
        ]
        if with_coarse:
            cells += [percent(values.get("coarse"), pixels), percent(values.get("agreed"), values.get("coarse"))]
        return cells

    @property
    def bytes_by_kind(self) -> dict[str, float]:
        """Mean size of an image's files in bytes: masks, and candidates and confidence where they are stored."""
        return {
            key.removesuffix("_bytes"): value / max(1, self.totals.num_images)
            for key, value in self.totals.num_bytes.items()
        }
