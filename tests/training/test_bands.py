"""A network of five channels from training to prediction."""

import json

import numpy as np
import pytest
from PIL import Image

import polyscale
from polyscale.config import load_config
from polyscale.data import open_data
from polyscale.errors import UserError
from polyscale.evaluation import evaluate
from polyscale.inference.files import predict_files
from polyscale.training import ExperimentConfig, train
from polyscale.training.choose import choose_recipe

rasterio = pytest.importorskip("rasterio")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:rasterio", "ignore::PendingDeprecationWarning:rasterio")


@pytest.fixture
def data(tmp_path):
    """Only the fifth band, of 16 bits, tells the class."""
    root = tmp_path / "data"
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in "abcd":
        labels = np.kron(rng.integers(0, 2, (4, 4)), np.ones((16, 16))).astype(np.uint8)
        image = rng.integers(0, 3000, (64, 64, 5)).astype(np.uint16)
        image[..., 4] = 500 + 2000 * labels.astype(np.uint16)
        shape = {"height": 64, "width": 64, "count": 5, "dtype": "uint16"}
        with rasterio.open(root / "images" / f"{name}.tif", "w", driver="GTiff", **shape) as file:
            file.write(np.moveaxis(image, 2, 0))
        Image.fromarray(labels).save(root / "masks" / f"{name}.png")
    classes = [{"name": "dry", "color": [0, 0, 0]}, {"name": "wet", "color": [0, 0, 255]}]
    (root / "label_space.yaml").write_text(json.dumps({"name": "fields", "classes": classes}))
    (root / "data.yaml").write_text(json.dumps({"bands": {"channels": [1, 2, 3, 4, 5], "ranges": [[0, 3000]]}}))
    return root


def recipe(data, *changes):
    settings = {
        "name": "bands",
        "data": {"train": {"kind": "folder", "root": str(data)}},
        "model": {
            "backbone": {"name": "tiny", "in_channels": 5},
            "decoder": {"kind": "light", "light_channels": 8, "dropout": 0.0},
            "multiscale": {"method": "single"},
        },
        "augment": {"crop": [48, 48], "scale": [0.9, 1.2], "blur": 0.5, "rand_augment": 1},
        "loss": {"main": "cross_entropy"},
        "training": {"epochs": 1, "epoch_length": 96, "batch_size": 4, "optimizer": {"kind": "adamw", "lr": 1e-2}},
    }
    path = data.parent / "recipe.yaml"
    path.write_text(json.dumps(settings))
    return load_config(ExperimentConfig, [path], changes)


def test_it_is_trained_scored_and_used(data, tmp_path):
    checkpoint = train(recipe(data), tmp_path / "run").last
    predictor = polyscale.load(checkpoint, "cpu")
    assert predictor.model.in_channels == 5
    opened = open_data(data)
    scores = evaluate(predictor, opened)
    assert scores.scores.mean_iou > 0.8
    file = data / "images" / "a.tif"
    labels = predictor.predict(file).labels
    np.testing.assert_array_equal(labels, predictor.predict(opened.read(0).image).labels)
    summary = predict_files(predictor, [str(file)], tmp_path / "out")
    assert len(summary.written) == 1
    assert Image.open(tmp_path / "out" / "labels" / "a.png").size == (64, 64)
    with pytest.raises(UserError, match=r"uint8 array of shape \(H, W, 5\)"):
        predictor.predict(np.zeros((8, 8, 3), np.uint8))


def test_a_tracker_is_shown_the_first_three_channels(data, tmp_path):
    root = str(data)
    changes = [f"data.val={{kind: folder, root: {root}}}", "training.epoch_length=4", "training.tracker=tensorboard"]
    result = train(recipe(data, *changes), tmp_path / "run")
    assert result.last.is_file()
    assert any((tmp_path / "run" / "tensorboard").iterdir())


def test_a_recipe_is_chosen_for_its_channels(data):
    assert choose_recipe(data)["model"]["backbone"]["in_channels"] == 5


def test_a_large_image_is_not_cut_into_tiles(data, tmp_path):
    predictor = polyscale.load(train(recipe(data, "training.epoch_length=4"), tmp_path / "run").last, "cpu")
    file = data / "images" / "a.tif"
    assert predictor.predict(file, tile=64).labels.shape == (64, 64)
    with pytest.raises(UserError, match="5 channels looks at whole images only"):
        predictor.predict(file, tile=63, overlap=4)


def test_channels_that_do_not_fit_are_told_before_training(data, tmp_path):
    with pytest.raises(UserError, match="takes images of 3 channels, and those of training have 5"):
        train(recipe(data, "model.backbone.in_channels=3"), tmp_path / "run")
