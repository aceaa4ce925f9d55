"""The article's Table 3 on any data set and network: one scale, average pooling, explicit and hierarchical attention.

    python benchmarks/table3.py --streets --out runs/table3-streets
    python benchmarks/table3.py configs/camvid/lite0.yaml configs/camvid/holdout.yaml --out runs/table3-camvid \\
        data.train.root=CAMVID data.val.root=CAMVID training.epochs=20 --also "official val=CAMVID:val"

For each seed three networks are trained with equal budgets (steps, crops, order of images): at one scale, which serves
the rows of one scale and of average pooling, explicitly at (0.5, 1, 2), and hierarchically on the pair (0.5, 1).
Training FLOPs are counted; step times are measured side by side. ``--streets`` takes the demo's recipe and draws other
streets for each seed. ``--also`` scores the same networks on further data. Finished networks are kept in --out, so an
interrupted run continues.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

from cost import step_times, training_flops
from record import finished, save, show

import polyscale
from polyscale.cli.demo import RECIPE, SPLITS
from polyscale.config import load_config
from polyscale.data import open_data
from polyscale.data.streets import write_streets
from polyscale.evaluation import evaluate
from polyscale.files import write_atomically
from polyscale.training import ExperimentConfig, train

THREE, FOUR = (0.5, 1.0, 2.0), (0.25, 0.5, 1.0, 2.0)
METHODS = {
    "single": ["model.multiscale={method: average, train_scales: [1]}"],
    "explicit": ["model.multiscale={method: explicit, train_scales: [0.5, 1, 2], eval_scales: []}"],
    "hierarchical": ["model.multiscale.method=hierarchical"],
}
# The rows of the table: title, network, scales, and the row of the network's evaluation.
ROWS = (
    ("single scale", "single", THREE, "scale 1"),
    ("average pooling (0.5, 1, 2)", "single", THREE, "average of probabilities"),
    ("average of logits (0.5, 1, 2)", "single", THREE, "average of logits"),
    ("average pooling (0.25, 0.5, 1, 2)", "single", FOUR, "average of probabilities"),
    ("explicit (0.5, 1, 2)", "explicit", THREE, "fused"),
    ("hierarchical (0.5, 1, 2)", "hierarchical", THREE, "fused"),
    ("hierarchical (0.25, 0.5, 1, 2)", "hierarchical", FOUR, "fused"),
    ("  its scale 1 alone", "hierarchical", THREE, "scale 1"),
    ("  its views averaged (0.5, 1, 2)", "hierarchical", THREE, "average of probabilities"),
    ("  its views, constant attention", "hierarchical", THREE, "constant attention 0.5"),
)


def recipe(arguments: argparse.Namespace, method: str, seed: int) -> ExperimentConfig:
    """The recipe of one network."""
    changes = [f"seed={seed}", f"name=table3-{method}", *arguments.changes, *METHODS[method]]
    if not arguments.streets:
        return load_config(ExperimentConfig, arguments.recipes, changes)
    root = json.dumps(str(arguments.out / f"data{seed}"))
    changes += [f"data.train.root={root}", f"data.val={{kind: folder, split: val, root: {root}}}"]
    return load_config(ExperimentConfig, [RECIPE, *arguments.recipes], changes)


def run(arguments: argparse.Namespace, method: str, seed: int, also: str | None = None) -> dict[str, Any]:
    """Train one network and score it on the recipe's data, or on data of ``--also``; {"0.5,1,2": evaluation, ...}."""
    result = arguments.out / (f"{method}{seed}.json" if also is None else f"{method}{seed} {also}.json")
    if result.exists():
        return dict(json.loads(result.read_text()))
    if arguments.streets:
        write_streets(arguments.out / f"data{seed}", SPLITS, seed=seed)
    config = recipe(arguments, method, seed)
    start = time.monotonic()
    checkpoint = finished(train(config, arguments.out / f"{method}{seed}", resume=True))
    scores: dict[str, Any] = {"training_seconds": time.monotonic() - start}
    network = polyscale.load(checkpoint).model
    assert config.data.val is not None
    data = open_data(config.data.val if also is None else arguments.also[also])
    for scales in (THREE,) if method == "explicit" else (THREE, FOUR):
        scores[_listed(scales)] = evaluate(network, data, scales, compare=True, boundary=False).to_json()
    with write_atomically(result) as temporary:
        temporary.write_text(json.dumps(scores))
    return scores


def _listed(scales: tuple[float, ...]) -> str:
    return ",".join(f"{scale:g}" for scale in scales)


def main() -> None:
    """Train, score, print, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streets", action="store_true", help="the demo's recipe, on streets drawn for each seed")
    parser.add_argument("--out", type=Path, default=Path("runs/table3"))
    parser.add_argument("--also", action="append", default=[], metavar="NAME=DATA", help="score on these data as well")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--methods",
        nargs="+",
        choices=list(METHODS),
        default=list(METHODS),
        help="networks; costs count against the first",
    )
    parser.add_argument("--label", help="ends the record's name, to tell runs of one recipe apart")
    parser.add_argument("--explicit-seeds", type=int, nargs="+", help="fewer of them for the one that costs most")
    parser.add_argument("recipe", nargs="*", help="YAML files, then key=value changes")
    arguments = parser.parse_args()
    arguments.recipes = [Path(text) for text in arguments.recipe if "=" not in text]
    arguments.changes = [text for text in arguments.recipe if "=" in text]
    if not arguments.streets and not arguments.recipes:
        parser.error("give a recipe, or --streets")
    arguments.also = dict(text.split("=", 1) for text in arguments.also)
    arguments.out.mkdir(parents=True, exist_ok=True)

    methods = [method for method in METHODS if method in arguments.methods]
    recipes = {method: recipe(arguments, method, arguments.seeds[0]) for method in methods}
    if arguments.streets:
        write_streets(arguments.out / f"data{arguments.seeds[0]}", SPLITS, seed=arguments.seeds[0])
    rival = methods[0]
    validation = recipes[rival].data.val
    assert validation is not None, "the recipe names no validation data"
    num_classes = open_data(validation).label_space.num_classes
    crop = recipes[rival].augment.crop
    flops = {method: training_flops(config.model, crop, num_classes) for method, config in recipes.items()}
    timed = arguments.out / "step_times.json"
    if not timed.exists():
        timed.write_text(json.dumps(step_times(recipes, num_classes)))
    seconds = json.loads(timed.read_text())

    cost = {method: flops[method] / flops[rival] for method in methods}
    pace = {method: seconds[method] / seconds[rival] for method in methods}
    data = "drawn streets" if arguments.streets else " + ".join(path.stem for path in arguments.recipes)
    seeds = dict.fromkeys(methods, arguments.seeds)
    if "explicit" in seeds:
        seeds["explicit"] = arguments.explicit_seeds or arguments.seeds
    tables = {}
    for also in (None, *arguments.also):
        results = {m: [run(arguments, m, seed, also) for seed in seeds[m]] for m in methods}
        tables[also] = summarise(results, cost, pace)
        print_summary(f"{data}, seeds {arguments.seeds}" + (f": {also}" if also else ""), tables[also])
    record = {
        "data": "drawn streets" if arguments.streets else [str(path) for path in arguments.recipes],
        "changes": [change for change in arguments.changes if ".root=" not in change],
        "seeds": seeds,
        "training_flops_a_crop": flops,
        "step_seconds": seconds,
        "costs_relative_to": rival,
        "rows": tables.pop(None),
        "also": tables,
    }
    name = "table3-streets" if arguments.streets else f"table3-{arguments.recipes[0].parent.name}"
    save(name + (f"-{arguments.label}" if arguments.label else ""), record)


def summarise(
    results: dict[str, list[dict[str, Any]]], cost: dict[str, float], pace: dict[str, float]
) -> dict[str, dict[str, Any]]:
    """The rows of the table."""
    values = {}
    for title, method, scales, name in ROWS:
        if method not in results:
            continue
        scored = [100 * result[_listed(scales)]["rows"][name]["mean_iou"] for result in results[method]]
        spread = statistics.stdev(scored) if len(scored) > 1 else 0.0
        values[title.strip()] = {"miou_percent": scored, "mean": statistics.mean(scored), "stdev": spread,
                         "training_flops_ratio": cost[method], "step_time_ratio": pace[method]}  # fmt: skip
    return values


def print_summary(heading: str, values: dict[str, dict[str, Any]]) -> None:
    """The table."""
    rows = [
        [title, f"{row['training_flops_ratio']:.2f}x", f"{row['step_time_ratio']:.2f}x", f"{row['mean']:.1f}",
         f"{row['stdev']:.1f}", " ".join(f"{value:.1f}" for value in row["miou_percent"])]
        for title, row in ((title, values[title.strip()]) for title, *_ in ROWS if title.strip() in values)
    ]  # fmt: skip
    show(heading, ["row", "training FLOPs", "step time", "mIoU", "stdev", "each seed"], rows)


if __name__ == "__main__":
    main()
