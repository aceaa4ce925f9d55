"""The training of the networks: curves of several runs over each other, what differs in their configurations."""

from collections.abc import Mapping, Sequence
from typing import Any

from polyscale.report.plot import Series, plot, thinned
from polyscale.report.stored import Run, Stored

__all__ = ["config_differences", "curves", "footer"]

Part = dict[str, Any]

UNIMPORTANT = ("seed", "name", "out")
"""Keys of a configuration that are told elsewhere, or mean nothing."""


def runs_of(all_stored: Sequence[Stored]) -> list[tuple[str, Run]]:
    """Each run once, under a name of its own."""
    found: dict[str, Run] = {}
    for one in all_stored:
        if one.run is None or any(run.folder == one.run.folder for run in found.values()):
            continue
        name, number = one.name, 2
        while name in found:
            name, number = f"{one.name} {number}", number + 1
        found[name] = one.run
    return list(found.items())


def curves(all_stored: Sequence[Stored]) -> list[Part]:
    """One chart for each loss term, for the validation and for the learning rate, with every run in it."""
    runs = runs_of(all_stored)
    terms: dict[str, list[Series]] = {}
    for position, (name, run) in enumerate(runs):
        for title, points in _quantities(run.log).items():
            series = Series(name, thinned(points), f"r{position % 6}", dots=len(points) <= 40)
            terms.setdefault(title, []).append(series)
    return [
        {"title": title, "chart": plot(series, title, "step", title)}
        for title, series in terms.items()
        if any(one.points for one in series)
    ]


def _quantities(log: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[float, float]]]:
    found: dict[str, list[tuple[float, float]]] = {}
    for line in log:
        step = float(line["step"])
        for term, value in (line.get("loss") or {}).items():
            found.setdefault(f"Loss: {term.replace('_', ' ')}", []).append((step, float(value)))
        validation = line.get("validation") or {}
        if validation.get("miou") is not None:
            found.setdefault("Validation mIoU %", []).append((step, 100 * float(validation["miou"])))
        if line.get("lr") is not None:
            found.setdefault("Learning rate", []).append((step, float(line["lr"])))
    order = sorted(found, key=lambda title: (title == "Learning rate", not title.startswith("Validation")))
    return {title: found[title] for title in order}


def legend(all_stored: Sequence[Stored]) -> list[Part]:
    """Names and styles of the runs in the charts."""
    return [{"title": name, "style": f"r{k % 6}"} for k, (name, _) in enumerate(runs_of(all_stored))]


def config_differences(all_stored: Sequence[Stored]) -> Part | None:
    """Keys of the configurations whose values differ between the runs; None where there are not two runs."""
    runs = runs_of(all_stored)
    if len(runs) < 2:
        return None
    keys = sorted({key for _, run in runs for key in run.config})
    rows = []
    for key in keys:
        values = [_printed(run.config.get(key)) for _, run in runs]
        if len(set(values)) > 1 and key not in UNIMPORTANT:
            rows.append({"key": key, "values": values})
    return {"names": [name for name, _ in runs], "rows": rows}


def footer(first: Stored, command: str, version: str) -> dict[str, str]:
    """How it was made: data, scales, seed, versions, hardware, time."""
    metadata, run = first.metadata, first.run
    trained = run.environment if run is not None else {}
    environment = {**trained, **(metadata.get("environment") or {})}
    details = {
        "Command": command,
        "Checkpoint": metadata.get("checkpoint"),
        "Data": _joined(metadata.get("data"), metadata.get("split"), separator=", split "),
        "Images": _joined(metadata.get("num_images"), metadata.get("image_size"), separator=" of "),
        "Scales": ", ".join(f"{scale:g}" for scale in metadata.get("scales") or ()),
        "Method": metadata.get("method"),
        "Seed": run.config.get("seed") if run is not None else metadata.get("seed"),
        "Evaluated on": _joined(metadata.get("device"), metadata.get("seconds"), separator=" in ", end=" s"),
        "Trained": trained.get("date"),
        "Evaluated": (metadata.get("environment") or {}).get("date"),
        "Commit": environment.get("git_commit"),
        "Versions": _listed(
            {"Polyscale": version, "PyTorch": environment.get("torch"), "Python": environment.get("python")}
        ),
        "Hardware": _hardware(environment),
    }
    return {key: str(value) for key, value in details.items() if value not in (None, "", "None")}


def _hardware(environment: Mapping[str, Any]) -> str:
    gpus = ", ".join(environment.get("gpus") or ())
    cores = environment.get("cores")
    return ", ".join(filter(None, (environment.get("processor"), f"{cores} cores" if cores else "", gpus)))


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items() if value)


def _joined(first: Any, second: Any, separator: str, end: str = "") -> str | None:
    if first is None:
        return None
    return f"{first}{separator}{second}{end}" if second is not None else str(first)


def _printed(value: Any) -> str:
    if value is None:
        return "\N{EN DASH}"
    return f"{value:g}" if isinstance(value, float) else str(value)
