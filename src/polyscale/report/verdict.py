"""One sentence of verdict, made from the scores and said with its control."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from polyscale.intervals import Interval, bootstrap, interval
from polyscale.report.arithmetic import marginals
from polyscale.report.stored import Stored
from polyscale.report.ways import AVERAGE, FUSED, ORACLE, against, title

__all__ = ["Claim", "Difference", "control", "differences", "never_predicted", "verdict"]


@dataclass(frozen=True)
class Claim:
    """One part of the verdict."""

    text: str
    kind: str
    """good, level, bad or note."""


@dataclass(frozen=True)
class Difference:
    """The network's own mIoU less another's, in fractions."""

    name: str
    found: Interval
    how: str
    """What the range is of."""

    @property
    def kind(self) -> str:
        """good, level or bad."""
        return "level" if self.found.level else "good" if self.found.value > 0 else "bad"


def miou(stored: Stored, row: str) -> float | None:
    """Mean IoU of a row as it was scored."""
    value = ((stored.scores or {}).get("rows", {}).get(row) or {}).get("mean_iou")
    return None if value is None else float(value)


def differences(group: Sequence[Stored], rows: Sequence[str]) -> dict[str, Difference]:
    """The network's own row against others of the same evaluation.

    Args:
        group: evaluations of one name, the first of which the page is about.
        rows: names of the others.
    """
    first = group[0]
    draws = _draws(first)
    found = {}
    for row in rows:
        values = [own - other for one in group if (own := miou(one, FUSED)) and (other := miou(one, row))]
        if not values:
            continue
        if len(values) > 1:
            spread = Interval(float(np.mean(values)), min(values), max(values))
            found[row] = Difference(title(row, first.metadata), spread, f"lowest and highest of {len(values)} runs")
        elif draws is not None:
            names = list(first.about["rows"]) if first.about else []
            resampled = draws[:, names.index(FUSED)] - draws[:, names.index(row)]
            found[row] = Difference(
                title(row, first.metadata), interval(values[0], resampled), "95 % of resampled image sets"
            )
        else:
            found[row] = Difference(title(row, first.metadata), Interval(values[0], values[0], values[0]), "one run")
    return found


def control(group: Sequence[Stored], other: Sequence[Stored]) -> Difference | None:
    """The network's own row against the best of another network's: its average where it has one, else its own.

    Where both were evaluated on the same images, these are drawn in pairs.
    """
    first, second = group[0], other[0]
    row = AVERAGE if miou(second, AVERAGE) is not None else FUSED
    ours = [value for one in group if (value := miou(one, FUSED)) is not None]
    theirs = [value for one in other if (value := miou(one, row)) is not None]
    if not ours or not theirs:
        return None
    value = float(np.mean(ours) - np.mean(theirs))
    name = f"{second.name} ({title(row, second.metadata).lower()})"
    if len(ours) > 1 and len(theirs) > 1:
        spread = Interval(value, min(ours) - max(theirs), max(ours) - min(theirs))
        return Difference(name, spread, f"lowest and highest of {len(ours)} and {len(theirs)} runs")
    ours_drawn, theirs_drawn = _draws(first), _draws(second)
    if ours_drawn is None or theirs_drawn is None:
        return Difference(name, Interval(value, value, value), "one run")
    assert first.about is not None
    assert second.about is not None
    same = [entry["name"] for entry in first.about["images"]] == [entry["name"] for entry in second.about["images"]]
    if not same:
        theirs_drawn = _draws(second, seed=1)
        assert theirs_drawn is not None
    resampled = (
        ours_drawn[:, list(first.about["rows"]).index(FUSED)] - theirs_drawn[:, list(second.about["rows"]).index(row)]
    )
    how = "95 % of resampled image sets" + ("" if same else ", not the same images")
    return Difference(name, interval(value, resampled), how)


def _draws(stored: Stored, seed: int = 0) -> Any:
    if not stored.counts or stored.about is None:
        return None
    about = stored.about
    return bootstrap(marginals(stored.counts, len(about["rows"]), len(about["classes"])), seed)


def never_predicted(stored: Stored) -> list[str]:
    """Classes that the truth has and the network's own result nowhere."""
    scores = (stored.scores or {})["rows"][FUSED]
    names = list(scores["per_class"])
    predicted = np.array(scores["confusion"]).sum(0)
    return [name for k, name in enumerate(names) if not predicted[k] and scores["per_class"][name]["pixels"]]


def verdict(group: Sequence[Stored], others: Mapping[str, Sequence[Stored]]) -> tuple[list[Claim], list[Difference]]:
    """The parts of the sentence, and every difference with its range.

    Args:
        group: evaluations of one name, the first of which the page is about.
        others: evaluations of other names.
    """
    first = group[0]
    if first.scores is None:
        return [Claim("not evaluated yet", "note")], []
    rows = first.others
    table = differences(group, rows)
    claims = []
    if (rival := first.rival) in table:
        claims.append(_claim(table[rival], against(rival)))
    elif (own := miou(first, FUSED)) is not None:
        claims.append(Claim(f"{100 * own:.1f} mIoU", "note"))
    controls = {name: found for name, other in others.items() if other[0].scores and (found := control(group, other))}
    claims += [_claim(found, name) for name, found in controls.items()]
    missing = never_predicted(first)
    if missing:
        claims.append(Claim(f"{_listed(missing)} never predicted", "bad"))
    shown = [table[row] for row in rows if row in table and row != ORACLE]
    return claims, [*shown, *controls.values()]


def _claim(found: Difference, against: str) -> Claim:
    points = f"{100 * found.found.value:+.1f}".replace("-", "\N{MINUS SIGN}")
    if found.kind == "level":
        return Claim(f"level with {against} ({points})", "level")
    return Claim(f"{points} {'over' if found.kind == 'good' else 'against'} {against}", found.kind)


def _listed(names: Sequence[str]) -> str:
    """Names as a part of a sentence: a and b; a, b, c and 3 more."""
    if len(names) > 4:
        return f"{', '.join(names[:3])} and {len(names) - 3} more"
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
