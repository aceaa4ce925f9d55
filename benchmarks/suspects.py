"""How many labels that are wrong on purpose stand at the head of the list that ``polyscale data suspects`` makes.

Streets are drawn, and 5 % of their objects (connected regions of building, pole, sign, vegetation, car or person of 64
pixels or more) get another class, drawn from all. A tiny network is trained on the train part, wrong labels and all.
Then both parts are ranked: ``val``, whose images it never saw, and ``train``, whose wrong labels it learnt.

The list may be as long as it likes; what counts is its first K entries, K being 10 % of the number of labelled objects.
An object counts as found where an entry lies on it with half of its pixels or more, and covers a quarter of the object.
"""

import json
from pathlib import Path

import numpy as np
from record import finished

from polyscale.cli.demo import RECIPE
from polyscale.config import load_config
from polyscale.data import FolderConfig, read_mask, write_mask
from polyscale.data.regions import find_regions
from polyscale.data.streets import STREETS
from polyscale.files import write_atomically
from polyscale.training import ExperimentConfig, train

SPLITS = {"train": 400, "val": 200}
CLASSES = tuple(STREETS.names.index(name) for name in ("building", "pole", "sign", "vegetation", "car", "person"))
SMALLEST = 64
SHARE = 0.05


def mislabel(labels: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, int]:
    """Labels with some objects of another class, where these are (1, 2, … ; 0 elsewhere), and the number of objects."""
    found = find_regions(labels)
    objects = np.flatnonzero(np.isin(found.value, CLASSES) & (found.size >= SMALLEST))
    changed, numbers = found.value.copy(), np.zeros(len(found.value), np.uint8)
    for region in objects:
        if rng.random() < SHARE:
            changed[region] = (found.value[region] + rng.integers(1, STREETS.num_classes)) % STREETS.num_classes
            numbers[region] = numbers.max() + 1
    return found.spread(changed), found.spread(numbers), len(objects)


def spoil(data: Path, seed: int) -> dict[str, int]:
    """Write ``wrong/`` (masks) and ``where/`` (objects mislabelled) beside the masks; objects of each split."""
    done = data / "objects.json"
    if done.exists():
        return dict(json.loads(done.read_text()))
    counts = dict.fromkeys(SPLITS, 0)
    for place, split in enumerate(SPLITS):
        for index, path in enumerate(sorted((data / "masks" / split).glob("*.png"))):
            rng = np.random.default_rng([seed, place, index])
            labels, numbers, objects = mislabel(STREETS.encode(read_mask(path)), rng)
            write_mask(data / "wrong" / split / path.name, labels, STREETS)
            target = data / "where" / split / f"{path.stem}.npy"
            with write_atomically(target) as temporary, temporary.open("wb") as file:
                np.save(file, numbers)
            counts[split] += objects
    with write_atomically(done) as temporary:
        temporary.write_text(json.dumps(counts))
    return counts


def wrong(data: Path, split: str) -> FolderConfig:
    """A split with the spoilt labels."""
    return FolderConfig(root=data, split=split, image="images/{split}/{name}", mask="wrong/{split}/{name}")


def network(data: Path, out: Path, seed: int, changes: list[str]) -> Path:
    """The demo's network, trained on the spoilt train part."""
    text = json.dumps(wrong(data, "train").model_dump(mode="json"))
    config = load_config(ExperimentConfig, [RECIPE], [f"seed={seed}", f"data.train={text}", "name=suspects", *changes])
    return finished(train(config, out / "run", resume=True))
