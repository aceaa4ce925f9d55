"""The data of Table 4: images of which some have fine labels, and the others coarse polygons or none."""

import argparse
import math
from pathlib import Path
from typing import Any

from PIL import Image

from polyscale.cli.demo import RECIPE
from polyscale.data import CamVidConfig, FolderConfig, SegmentationData, open_data
from polyscale.data.streets import write_streets
from polyscale.data.streets.coarse import coarse_labels
from polyscale.errors import UserError
from polyscale.files import write_atomically
from polyscale.labels import LabelSpace

STREETS = {"train": 240, "val": 60}
CONFIGS = Path(__file__).parent.parent / "configs"
HELD_OUT = "0006R0*"


def write_coarse(data: SegmentationData, folder: Path, seed: int) -> None:
    """Coarse polygons of every image's labels, and the label space beside them."""
    space: LabelSpace = data.label_space
    space.to_yaml(folder / "label_space.yaml")
    for index, item in enumerate(data.items):
        path = folder / "train" / f"{item.name}.png"
        if not path.exists():
            labels = data.read(index).labels
            assert labels is not None
            with write_atomically(path) as temporary:
                Image.fromarray(space.decode(coarse_labels(labels, [seed, index]))).save(temporary)


class Streets:
    """Drawn streets, other ones for each seed."""

    scales = (0.5, 1.0, 2.0)

    def __init__(self, arguments: argparse.Namespace, seed: int) -> None:
        self.root = arguments.out / f"streets{seed}"
        write_streets(self.root, STREETS, seed=seed, coarse=True)
        names = [item.name for item in open_data(self.root, "train").items]
        self.fine = tuple(names[: arguments.fine or 30])
        self.recipe = RECIPE

    def labels(self, kind: str, part: str) -> FolderConfig:
        """The ``part`` ("fine", "rest" or "all") of the training images with their fine or coarse labels."""
        chosen = {"fine": {"include": self.fine}, "rest": {"exclude": self.fine}, "all": {}}[part]
        folder = {"fine": "masks", "coarse": "coarse"}[kind]
        templates = {"image": "images/{split}/{name}", "mask": folder + "/{split}/{name}"}
        return FolderConfig(root=self.root, split="train", **templates, **chosen)

    @property
    def tests(self) -> dict[str, Any]:
        """What is scored; the first is the table's."""
        return {"val": open_data(self.root, "val")}


class CamVid:
    """CamVid without the sequence that is held out; the first quarter of each sequence keeps fine labels."""

    scales = (0.5, 1.0, 2.0)

    def __init__(self, arguments: argparse.Namespace, seed: int) -> None:
        if arguments.camvid is None:
            raise UserError("--data camvid needs --camvid FOLDER with train, trainannot, val and valannot")
        self.root = Path(arguments.camvid)
        self.coarse = arguments.out / f"coarse{seed}"
        data = open_data(CamVidConfig(root=self.root, split="train", exclude=(HELD_OUT,)))
        sequences: dict[str, list[str]] = {}
        for item in data.items:
            sequences.setdefault(item.name.partition("_")[0], []).append(item.name)
        quarters = [names[: arguments.fine or math.ceil(len(names) / 4)] for names in sequences.values()]
        self.fine = tuple(name for names in quarters for name in names)
        write_coarse(data, self.coarse, seed)
        self.recipe = CONFIGS / "camvid/lite0.yaml"

    def labels(self, kind: str, part: str) -> FolderConfig:
        """The ``part`` ("fine", "rest" or "all") of the training images with their fine or coarse labels."""
        chosen: dict[str, Any] = {"fine": {"include": self.fine}}.get(part, {"exclude": (HELD_OUT,)})
        if part == "rest":
            chosen["exclude"] += self.fine
        masks = self.root.resolve() / "trainannot" if kind == "fine" else self.coarse.resolve() / "train"
        return FolderConfig(
            root=self.root,
            image="train/{name}",
            mask=f"{masks}/{{name}}",
            label_space=(self.coarse / "label_space.yaml").resolve(),
            **chosen,
        )

    @property
    def tests(self) -> dict[str, Any]:
        """What is scored; the first is the table's."""
        held_out = CamVidConfig(root=self.root, split="train", include=(HELD_OUT,))
        return {"0006R0, held out": open_data(held_out), "official val": open_data(self.root, "val")}


class CCP:
    """People and clothing: one in seven images keeps fine labels; 600 more photographs have no labels at all."""

    scales = (0.5, 1.0, 1.5)

    def __init__(self, arguments: argparse.Namespace, seed: int) -> None:
        if arguments.ccp is None:
            raise UserError("--data ccp needs --ccp FOLDER with images, masks and label_space.yaml")
        self.root = Path(arguments.ccp).resolve()
        self.coarse = (arguments.out / f"coarse{seed}").resolve()
        data = open_data(self.root, "train")
        self.fine = tuple(item.name for item in data.items[seed % 7 :: 7])[: arguments.fine]
        write_coarse(data, self.coarse, seed)
        self.recipe = CONFIGS / "ccp/lite0.yaml"
        self.unlabelled = self.root / "images/unlabelled"

    def labels(self, kind: str, part: str) -> FolderConfig:
        """The ``part`` ("fine", "rest" or "all") of the training images with their fine or coarse labels."""
        chosen = {"fine": {"include": self.fine}, "rest": {"exclude": self.fine}, "all": {}}[part]
        folder = {"fine": self.root / "masks", "coarse": self.coarse}[kind]
        templates = {"image": "images/{split}/{name}", "mask": f"{folder}/{{split}}/{{name}}"}
        return FolderConfig(
            root=self.root, split="train", label_space=self.root / "label_space.yaml", **templates, **chosen
        )

    @property
    def tests(self) -> dict[str, Any]:
        """What is scored; the first is the table's."""
        return {"val": open_data(self.root, "val")}
