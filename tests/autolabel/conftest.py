"""A teacher of the smallest kind that is sure of some pixels and not of others, and images for it."""

import numpy as np
import pytest
import torch
from PIL import Image

from polyscale.labels import LabelSpace


@pytest.fixture(scope="session")
def space():
    classes = [
        {"name": "road", "color": (128, 64, 128), "ids": (7, 8)},
        {"name": "sky", "color": (70, 130, 180), "ids": (23,)},
        {"name": "pole", "color": (153, 153, 153), "ids": (17,)},
    ]
    return LabelSpace.model_validate({"name": "lane", "classes": classes, "ignore_ids": (0,)})


@pytest.fixture(scope="session")
def save_teacher(space):
    """Save a network with random weights; another seed gives another teacher."""
    from polyscale.models import ModelConfig, build_model, save_checkpoint

    def save(path, seed=0, label_space=space):
        torch.manual_seed(seed)
        config = ModelConfig.model_validate(
            {"backbone": {"name": "tiny"}, "decoder": {"kind": "light", "light_channels": 8}}
        )
        model = build_model(config, label_space).eval()
        classifier = model.segmenter.decoder.classifier
        with torch.no_grad():
            classifier.weight.mul_(200)
            classifier.bias.zero_()
            classifier.bias.sub_(model(torch.rand(2, 3, 32, 48)).logits.mean((0, 2, 3)))
        save_checkpoint(path, model, label_space)
        return path

    return save


@pytest.fixture(scope="session")
def teacher(tmp_path_factory, save_teacher):
    return save_teacher(tmp_path_factory.mktemp("teacher") / "teacher.safetensors")


@pytest.fixture
def draw():
    """Make a random image (H, W, 3) with structure at several scales."""

    def picture(seed=0, height=32, width=48):
        rng = np.random.default_rng(seed)
        coarse = rng.integers(0, 256, (-(-height // 8), -(-width // 8), 3))
        large = np.kron(coarse, np.ones((8, 8, 1)))[:height, :width]
        return ((large + rng.integers(0, 256, (height, width, 3))) / 2).astype(np.uint8)

    return picture


@pytest.fixture
def images(tmp_path, draw):
    """Nine images in two folders, of two sizes."""
    folder = tmp_path / "images"
    for number in range(9):
        path = folder / ("day" if number < 6 else "night") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw(number, 32, 48 if number % 4 else 40)).save(path)
    return folder


@pytest.fixture
def content():
    """All files of a folder, by path, as bytes."""

    def read(folder):
        return {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }

    return read
