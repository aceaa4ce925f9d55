"""The paper's Table 4 (arXiv:2005.10821): do a teacher's labels make a better student than coarse ones?

A part of the training images keeps its fine labels; the others have coarse polygons. Each row is a student of the same
network, recipe and number of steps; only its labels differ:

    fine            the images with fine labels alone
    fine + coarse   and as many of the others with coarse polygons
    auto 0.5, 0.9   and as many of the others with the labels of a teacher, kept where its probability is 0.5 or 0.9
    unlabelled 0.5, 0.9   and as many images that have no labels at all with those of a teacher that saw "fine" alone
    coarse + auto   coarse polygons stand, and the teacher fills what they leave out
    round 2         "auto 0.5" with the student of "auto 0.5" as the teacher
    ..., all        each image as often as any other, where the rows above see both kinds equally often
    all fine        every image with fine labels: the bound

The teacher is the network of "fine + coarse" (the released recipe's choice), or of another row with --teacher. Its
labels are audited against the fine ones that the others have in truth. With --start every row goes on from one network
that saw the fine labels for so many steps, as the article's students go on from one that was trained elsewhere: a
teacher of few steps is too weak to teach. With --teacher-change the teacher is another network than its students: their
recipe with these changes, say a larger backbone with pretrained weights, for --teacher-steps on the same fine labels; a
row "teacher" gives its own score.

    python benchmarks/table4.py --data streets --start 800
    python benchmarks/table4.py --data streets --fine 12 --teacher-change model.backbone.name=tf_efficientnet_lite0 \\
        model.backbone.pretrained=true training.optimizer.lr=1e-3
    python benchmarks/table4.py --data camvid --camvid CAMVID --start 600 --steps 300 --change augment.crop=[192,256]

    python benchmarks/table4.py --data ccp --ccp CCP --start 400 --steps 300 --rows "auto 0.5" "unlabelled 0.5"

streets: drawn scenes with exact labels, other ones for each seed; scored on 60 more. camvid: the train part without the
sequence 0006R0; the first quarter of each sequence keeps fine labels; scored on 0006R0 and on the official val part
(one clip from the middle of a training sequence, which flatters). ccp: 100 photographs of people keep fine labels, 600
have coarse polygons drawn from theirs, 600 more have none.

Each finished network leaves one JSON file in --out, so an interrupted run continues.
"""

import argparse
import json
import math
import shutil
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from record import finished, save, show
from table4_data import CCP, CamVid, Streets
from torch import Tensor

import polyscale
from polyscale.autolabel import AutolabelConfig, autolabel, rethreshold
from polyscale.autolabel.audit import audit
from polyscale.config import dump_yaml, load_config, validate
from polyscale.data import SegmentationData, open_data
from polyscale.errors import UserError
from polyscale.evaluation import evaluate
from polyscale.files import write_atomically
from polyscale.intervals import difference
from polyscale.metrics import confusion_matrix
from polyscale.training import ExperimentConfig, train


@dataclass(frozen=True)
class Row:
    """What the images without fine labels bring: coarse polygons, or a teacher's labels.

    Attributes:
        threshold: of the teacher's labels; None without a teacher.
        keep_coarse: coarse polygons stand where they are, and the teacher fills the gaps.
        unlabelled: the images have no labels of any kind.
        balance: ``equal``: as many of them as of those with fine labels in each epoch; ``all``: each image as often.
    """

    threshold: float | None = None
    keep_coarse: bool = False
    unlabelled: bool = False
    balance: str = "equal"


OWN_TEACHER = "teacher"
"""The row of a teacher that is another network than its students."""
ROWS = {
    OWN_TEACHER: Row(),
    "fine": Row(),
    "fine + coarse": Row(),
    "auto 0.5": Row(0.5),
    "auto 0.9": Row(0.9),
    "unlabelled 0.5": Row(0.5, unlabelled=True),
    "unlabelled 0.9": Row(0.9, unlabelled=True),
    "coarse + auto 0.5": Row(0.5, keep_coarse=True),
    "round 2": Row(0.5),
    "fine + coarse, all": Row(balance="all"),
    "coarse + auto 0.5, all": Row(0.5, keep_coarse=True, balance="all"),
    "all fine": Row(),
}
COMPARED = ("fine", "fine + coarse")
"""The rows that all others are measured by."""
LOWEST = 0.5


class Images:
    """The confusion matrix of each image, in the data's order."""

    def __init__(self, data: SegmentationData) -> None:
        self._labels = {item.name: index for index, item in enumerate(data.items)}
        self._data = data
        self.tables = np.zeros((len(data.items), *[data.label_space.num_classes] * 2), dtype=np.int64)

    def add(self, name: str, classes: Tensor) -> None:
        """Count one image's classes, (H, W) train ids."""
        index = self._labels[name]
        labels = torch.from_numpy(self._data.read(index).labels)
        self.tables[index] = confusion_matrix(classes.cpu(), labels, self._data.label_space.num_classes).numpy()


class Experiment:
    """All rows of one seed."""

    def __init__(self, arguments: argparse.Namespace, seed: int) -> None:
        self.arguments, self.seed, self.out = arguments, seed, arguments.out
        self.data = {"streets": Streets, "camvid": CamVid, "ccp": CCP}[arguments.data](arguments, seed)
        self.teacher = OWN_TEACHER if arguments.teacher_change else arguments.teacher

    def row(self, name: str) -> dict[str, Any]:
        """Scores of one student; trained, and its labels made, where that is not done yet."""
        result = self.out / f"{_slug(name)}-{self.seed}.json"
        if result.exists():
            return dict(json.loads(result.read_text()))
        row = ROWS[name]
        teacher = "auto 0.5" if name == "round 2" else "fine" if row.unlabelled else self.teacher
        labels = None if row.threshold is None else self.auto_labels(row, teacher, row.threshold)
        start = time.monotonic()
        last = self.train(name, labels)
        values: dict[str, Any] = {"row": name, "seed": self.seed, "training_seconds": time.monotonic() - start}
        if labels is not None and not row.unlabelled:
            found = audit(labels, open_data(self.data.labels("fine", "rest")))
            values["labels"] = {
                quality.name: {
                    "precision": quality.precision, "coverage": quality.coverage, "recall": quality.recall
                }
                for quality in found.at()
            }  # fmt: skip
            values["teacher"] = teacher
            values["curve"] = {level: found.at(level)[-1].precision for level in found.thresholds}
        model = polyscale.load(last, "cpu").model
        values["tests"], values["images"] = {}, {}
        for test, data in self.data.tests.items():
            images = Images(data)
            scores = evaluate(model, data, self.data.scales, keep=images.add)
            values["tests"][test] = scores.to_json()
            values["images"][test] = [table.tolist() for table in images.tables]
        with write_atomically(result) as temporary:
            temporary.write_text(json.dumps(values))
        return values

    def auto_labels(self, row: Row, teacher: str, threshold: float) -> Path:
        """The labels that a teacher gives the images without fine ones; their folder."""
        kind = "labels-and-coarse" if row.keep_coarse else "new-labels" if row.unlabelled else "labels"
        folder: Path = self.out / f"{kind}-of-{_slug(teacher)}-{self.seed}"
        if threshold != LOWEST:
            lowest = self.auto_labels(row, teacher, LOWEST)
            folder = folder.with_name(f"{folder.name}-{threshold}")
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(lowest, folder)
            rethreshold(folder, threshold)
            return folder
        self.row(teacher)  # trains it where it is not there yet
        images = self.data.unlabelled if row.unlabelled else self.out / f"rest{self.seed}.yaml"
        if not row.unlabelled:
            rest = self.data.labels("coarse", "rest").model_dump(mode="json")
            images.write_text(dump_yaml(rest), encoding="utf-8")
        settings = AutolabelConfig(threshold=LOWEST, scales=self.data.scales, confidence=True, confidence_stride=1)
        last = self.run_folder(teacher) / "last.safetensors"
        autolabel(last, images, folder, settings, coarse=images if row.keep_coarse else None, device="cpu")
        return folder

    def train(self, name: str, labels: Path | None = None) -> Path:
        """The student of a row, the teacher, or the network "start" that all students go on from; its checkpoint."""
        first = None
        if name not in ("start", OWN_TEACHER) and self.arguments.start:
            first = str(self.train("start"))
        fine = self.data.labels("fine", "fine").model_dump(mode="json")
        others = str(labels) if labels is not None else self.data.labels("coarse", "rest").model_dump(mode="json")
        sources = {"fine": {"data": fine}, "others": {"data": others}}
        if name in ("start", OWN_TEACHER, "fine"):
            data = fine
        elif name == "all fine":
            data = self.data.labels("fine", "all").model_dump(mode="json")
        else:
            data = {"kind": "mix", "sources": sources, "balance": ROWS[name].balance}
        changes = [*self.arguments.change, *(self.arguments.teacher_change if name == OWN_TEACHER else ())]
        values = load_config(ExperimentConfig, [self.data.recipe], changes).model_dump(mode="json")
        # All students take the same number of steps, whatever they have to learn from.
        steps_by_name = {"start": self.arguments.start, OWN_TEACHER: self.arguments.teacher_steps}
        steps = steps_by_name.get(name, self.arguments.steps)
        batch = values["training"]["batch_size"]
        values |= {"name": f"table4-{_slug(name)}", "seed": self.seed, "data": {"train": data}}
        values["training"] |= {"epochs": 5, "epoch_length": math.ceil(steps / 5) * batch, "check_data": False}
        values["training"]["start_from"] = first
        config = validate(ExperimentConfig, values)
        return finished(train(config, self.run_folder(name), resume=True))

    def run_folder(self, name: str) -> Path:
        """Where a row's student is trained."""
        folder: Path = self.out / f"run-{_slug(name)}-{self.seed}"
        return folder


def _slug(name: str) -> str:
    return name.replace(" + ", "-").replace(", ", "-").replace(" ", "-")


def summarise(results: dict[str, list[dict[str, Any]]], test: str) -> dict[str, Any]:
    """Mean and spread of each row, its gain over "fine" and "fine + coarse", and how much of the gap it closes.

    A gain is of all seeds' images together, with the 95 % range over other draws of the images.
    """
    tables = {name: np.concatenate([result["images"][test] for result in row]) for name, row in results.items()}
    rows: dict[str, dict[str, Any]] = {}
    for name, row in results.items():
        scores = [100 * result["tests"][test]["rows"]["fused"]["mean_iou"] for result in row]
        rows[name] = {"seeds": scores, "mean": statistics.mean(scores), "stdev": _stdev(scores)}
        for other, key in (("fine", "gain_over_fine"), ("fine + coarse", "gain_over_coarse")):
            rows[name][key] = [100 * value for value in difference(tables[name], tables[other])]
    if "all fine" in rows:
        low, high = rows["fine"]["mean"], rows["all fine"]["mean"]
        for values in rows.values():
            values["gap_closed"] = (values["mean"] - low) / (high - low) if high != low else None
    return rows


def _stdev(values: list[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0


def print_summary(title: str, rows: dict[str, Any]) -> None:
    """The table."""
    show(
        title,
        ["labels", "mIoU", "stdev", "over fine", "over fine + coarse", "gap closed %", "each seed"],
        [
            [
                name,
                f"{row['mean']:.2f}",
                f"{row['stdev']:.2f}",
                _range(row["gain_over_fine"]),
                _range(row["gain_over_coarse"]),
                "-" if row.get("gap_closed") is None else f"{100 * row['gap_closed']:.0f}",
                " ".join(f"{value:.1f}" for value in row["seeds"]),
            ]
            for name, row in rows.items()
        ],
    )


def _range(gain: list[float]) -> str:
    return "{:+.1f} [{:+.1f}, {:+.1f}]".format(*gain)


def main() -> None:
    """Train, label, score, print, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=["streets", "camvid", "ccp"], default="streets")
    parser.add_argument("--camvid", type=Path, help="CamVid's folder with train, trainannot, val, valannot")
    parser.add_argument("--ccp", type=Path, help="CCP's folder with images, masks and label_space.yaml")
    parser.add_argument("--fine", type=int, help="images with fine labels (CamVid: of each sequence)")
    parser.add_argument("--steps", type=int, default=400, help="of every student")
    parser.add_argument("--start", type=int, default=0, help="steps of the network that all students go on from")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--teacher", choices=["fine", "fine + coarse"], default="fine + coarse")
    more = [name for name in ROWS if name not in (OWN_TEACHER, *COMPARED)]
    usual = [name for name in more if not ROWS[name].unlabelled]
    parser.add_argument("--rows", nargs="+", choices=more, default=usual, help=f"besides {', '.join(COMPARED)}")
    parser.add_argument("--change", nargs="+", default=[], metavar="KEY=VALUE", help="in every network's recipe")
    parser.add_argument("--teacher-change", nargs="+", default=[], metavar="KEY=VALUE", help="in the teacher's recipe")
    parser.add_argument("--teacher-steps", type=int, default=400, help="of a teacher with --teacher-change")
    parser.add_argument("--out", type=Path, help="by default runs/table4-DATA")
    parser.add_argument("--results", type=Path, help="folder of the record; by default benchmarks/results")
    arguments = parser.parse_args()
    arguments.out = arguments.out or Path(f"runs/table4-{arguments.data}")
    if arguments.data != "ccp" and any(ROWS[name].unlabelled for name in arguments.rows):
        raise UserError(f"{arguments.data} has no images without labels; leave the rows 'unlabelled' out")
    settings: dict[str, Any] = {"images": "scored one by one"}  # which networks of an earlier day were not
    settings |= {key: getattr(arguments, key) for key in ("data", "fine", "start", "steps", "teacher", "change")}
    if arguments.teacher_change:
        settings |= {key: getattr(arguments, key) for key in ("teacher_change", "teacher_steps")}
        settings["teacher"] = "its own network"
    remember(arguments.out / "settings.json", settings)
    wanted = {*arguments.rows, *COMPARED} | ({OWN_TEACHER} if arguments.teacher_change else set())
    names = [name for name in ROWS if name in wanted]
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for seed in arguments.seeds:
        experiment = Experiment(arguments, seed)
        for name in names:
            results[name].append(experiment.row(name))
            print(f"seed {seed}, {name}: done", flush=True)
    tests = list(results["fine"][0]["tests"])
    summaries = {test: summarise(results, test) for test in tests}
    for test, rows in summaries.items():
        print_summary(f"mIoU on {arguments.data}, {test}; {arguments.steps} steps, seeds {arguments.seeds}", rows)
    labels = {name: [result.get("labels") for result in row] for name, row in results.items() if ROWS[name].threshold}
    seconds = {name: [result["training_seconds"] for result in row] for name, row in results.items()}
    values = {**settings, "seeds": arguments.seeds, "scales": experiment.data.scales, "tests": summaries}
    title = f"table4-{arguments.data}" + (f"-fine{arguments.fine}" if arguments.fine else "")
    save(
        title + ("-teacher" if arguments.teacher_change else ""),
        {**values, "by_class": by_class(results, tests[0]), "labels": labels, "training_seconds": seconds},
        arguments.results,
    )


def by_class(results: dict[str, list[dict[str, Any]]], test: str) -> dict[str, dict[str, float]]:
    """IoU of each class and row in percent, mean over seeds."""
    return {
        name: {
            title: statistics.mean(
                100 * (result["tests"][test]["rows"]["fused"]["per_class"][title]["iou"] or 0) for result in row
            )
            for title in row[0]["tests"][test]["rows"]["fused"]["per_class"]
        }
        for name, row in results.items()
    }


def remember(path: Path, settings: dict[str, Any]) -> None:
    """Networks of other settings are not mixed with these."""
    if path.exists():
        before = json.loads(path.read_text())
        if before != settings:
            raise UserError(f"{path.parent} holds networks of {before}, not {settings}; choose another --out")
    with write_atomically(path) as temporary:
        temporary.write_text(json.dumps(settings))


if __name__ == "__main__":
    main()
