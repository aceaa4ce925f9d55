"""The demo over several seeds, with its control: how far hierarchical attention beats what a user would do without it.

For each seed (which draws other streets and starts from other weights) the demo's network is trained on the pair (0.5,
1) and every way of combining (0.5, 1, 2) is scored on the same views. The control is the same backbone and decoder
without attention, trained at scale 1 for the same *time* (more steps, by the ratio of step times measured side by side
here), and average-pooled over the same scales.

Finished seeds are kept in --out, so an interrupted run continues.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

from cost import step_times
from record import finished, save, show

import polyscale
from polyscale.cli.demo import RECIPE, SCALES, SPLITS
from polyscale.config import load_config
from polyscale.data import open_data
from polyscale.data.streets import write_streets
from polyscale.evaluation import evaluate
from polyscale.files import write_atomically
from polyscale.training import ExperimentConfig, train

CONTROL = ["model.multiscale={method: average, fusion: exact}", "name=demo-control"]


def recipe(data: Path, seed: int, *changes: str) -> ExperimentConfig:
    """The demo's recipe for one seed."""
    return load_config(
        ExperimentConfig, [RECIPE], [f"seed={seed}", f"data.train.root={json.dumps(str(data))}", *changes]
    )


def step_time_ratio(data: Path) -> float:
    """Time of a training step on the pair over one at scale 1."""
    times = step_times({"pair": recipe(data, 0), "single": recipe(data, 0, *CONTROL)}, 9, repeats=15)
    return times["pair"] / times["single"]


def run(out: Path, network: str, seed: int, ratio: float, changes: list[str]) -> dict[str, Any]:
    """Scores of one network of one seed."""
    result = out / f"{network}{seed}.json"
    if result.exists():
        return dict(json.loads(result.read_text()))
    data = out / f"data{seed}"
    write_streets(data, SPLITS, seed=seed)
    extra = []
    if network == "control":
        length = recipe(data, seed, *changes).training.epoch_length
        assert length is not None
        extra = [*CONTROL, f"training.epoch_length={round(length * ratio)}"]
    start = time.monotonic()
    checkpoint = finished(train(recipe(data, seed, *changes, *extra), out / f"{network}{seed}", resume=True))
    seconds = time.monotonic() - start
    evaluation = evaluate(polyscale.load(checkpoint, "cpu").model, open_data(data, "val"), SCALES, compare=True)
    scores = {"seed": seed, "training_seconds": seconds, **evaluation.to_json()}
    with write_atomically(result) as temporary:
        temporary.write_text(json.dumps(scores))
    return scores


def main() -> None:
    """Train, score, print, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/demo_seeds"))
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2, 3])
    parser.add_argument("changes", nargs="*", help="key=value changes to the demo's recipe")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    ratio_file = arguments.out / "step_time_ratio.json"
    if not ratio_file.exists():
        ratio_file.write_text(json.dumps(step_time_ratio(arguments.out)))
    ratio = json.loads(ratio_file.read_text())
    networks = ("hierarchical", "control")
    results = {n: [run(arguments.out, n, seed, ratio, arguments.changes) for seed in arguments.seeds] for n in networks}

    summary: dict[str, dict[str, float]] = {}
    for network in networks:
        for row in results[network][0]["rows"]:
            values = [100 * result["rows"][row]["mean_iou"] for result in results[network]]
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            summary[f"{network}: {row}"] = {"mean": statistics.mean(values), "stdev": spread, "seeds": values}
    show(
        f"mIoU over seeds {arguments.seeds}; control trained for the same time ({ratio:.2f}x the steps)",
        ["network: row", "mean", "stdev", "each seed"],
        [
            [name, f"{s['mean']:.1f}", f"{s['stdev']:.1f}", " ".join(f"{v:.1f}" for v in s["seeds"])]
            for name, s in summary.items()
        ],
    )
    classes: dict[str, dict[str, float]] = {}
    scored = results["hierarchical"]
    for name in scored[0]["rows"]["fused"]["per_class"]:
        classes[name] = {
            row: statistics.mean(100 * (r["rows"][row]["per_class"][name]["iou"] or 0) for r in scored)
            for row in ("scale 0.5", "scale 1", "scale 2", "average of probabilities", "fused")
        }
    rows = [[name, *(f"{value:.1f}" for value in values.values())] for name, values in classes.items()]
    show("IoU by class, mean over seeds", ["class", "0.5x", "1x", "2x", "average", "hierarchical"], rows)
    values = {
        "step_time_ratio": ratio,
        "changes": arguments.changes,
        "miou_percent": summary,
        "iou_percent_by_class": classes,
    }
    save("demo_seeds", values)


if __name__ == "__main__":
    main()
