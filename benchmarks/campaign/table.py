"""The tables of ``docs/explanation/reliability.md``, from the newest records under ``benchmarks/results``.

python -m campaign.table           # write them
python -m campaign.table --check   # status 1 where the page says something else
"""

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from polyscale.files import write_atomically

__all__ = ["main", "tables"]

RESULTS = Path(__file__).parents[1] / "results"
PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "reliability.md"
_FAULTS = {
    "kills": ("killed at a random moment", lambda one: f"{one['kills']} kills"),
    "together": ("two runs at once", lambda one: f"{one['times']} times, {one['refused']} refused"),
    "disk": ("disk full", lambda one: f"at {one['failed_at']} of {one['writes']} writes"),
}


def newest(name: str) -> dict[str, Any]:
    """The newest record of a name."""
    found: dict[str, Any] = json.loads(max(RESULTS.glob(f"{name}-*.json")).read_text(encoding="utf-8"))
    return found


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(figure: str, one: dict[str, Any] | None) -> str:
    if one is None:
        return "not measured"
    return f"{figure}, all held" if not one["wrong"] else f"{figure}, {len(one['wrong'])} did not hold"


def fault_table(found: dict[str, Any]) -> str:
    """Commands and faults, with the figure for each."""
    parts = list(_FAULTS)
    names = list(dict.fromkeys(name for part in parts for name in found.get(part, {})))
    rows = []
    for name in names:
        ones = [(part, found.get(part, {}).get(name)) for part in parts]
        rows.append([f"`{name}`", *(_cell("" if one is None else _FAULTS[part][1](one), one) for part, one in ones)])
    return _table(["command", *(_FAULTS[part][0] for part in parts)], rows)


def number_table(found: dict[str, Any]) -> str:
    """What else was checked, and what was seen."""
    rows = []
    for part in ("numbers", "processes"):
        for name, one in found.get(part, {}).items():
            seen = ", ".join(f"{key.replace('_', ' ')} {_shown(value)}" for key, value in one.items() if key != "wrong")
            rows.append([name, seen, "held" if not one["wrong"] else "; ".join(one["wrong"])[:200]])
    return _table(["check", "seen", "result"], rows)


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:.1e}" if isinstance(value, float) and 0 < value < 1e-3 else str(value)


def fuzz_table(found: dict[str, Any]) -> str:
    """Damaged files by group."""
    rows = []
    for group, kinds in found["groups"].items():
        counts = {key: sum(kind[key] for kind in kinds.values()) for key in ("files", "read", "refused", "finds")}
        longest = max(kind["longest_seconds"] for kind in kinds.values())
        most = max(kind["most_megabytes"] for kind in kinds.values())
        rows.append([group, *(f"{count:,}" for count in counts.values()), f"{longest:.1f} s", f"{most} MB"])
    head = ["files", "damaged", "read", "refused in one line", "anything else", "longest", "most memory"]
    return _table(head, rows)


def tables() -> dict[str, str]:
    """The tables by name."""
    fuzz, faults = newest("fuzz"), newest("faults")
    limits = fuzz["limits"]
    told = (
        f"{fuzz['files']:,} files, seed {fuzz['seed']}, {fuzz['environment']['date'][:10]}; limits for one file: "
        f"{limits['seconds']:g} s of one processor and {limits['megabytes']:,} MB.\n\n"
    )
    dated = f"Measured on {faults['environment']['date'][:10]}.\n\n"
    return {"fuzz": told + fuzz_table(fuzz), "faults": dated + fault_table(faults), "numbers": number_table(faults)}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args(arguments)
    before = text = PAGE.read_text(encoding="utf-8")
    for name, table in tables().items():
        place = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        assert place.search(text), f"{PAGE} has no place for the table {name}"
        text = place.sub(lambda found, table=table: f"{found[1]}{table}\n{found[2]}", text)
    if given.check:
        return int(text != before)
    with write_atomically(PAGE) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
