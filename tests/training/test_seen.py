import numpy as np
from PIL import Image

from polyscale.config import dump_yaml
from polyscale.training.seen import images_trained_on


def test_the_recipe_beside_a_checkpoint_tells_its_images(tmp_path):
    for kind in ("images", "masks"):
        (tmp_path / "data" / kind).mkdir(parents=True)
        for name in ("a", "b"):
            Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "data" / kind / f"{name}.png")
    (tmp_path / "data" / "label_space.yaml").write_text("name: one\nclasses: [{name: road, color: [0, 0, 0]}]\n")
    run = tmp_path / "run"
    run.mkdir()
    (run / "best.safetensors").touch()
    assert images_trained_on(run) is None
    data = {"kind": "folder", "root": str(tmp_path / "data"), "exclude": ["b"]}
    (run / "config.yaml").write_text(dump_yaml({"name": "run", "data": {"train": data}}))
    assert images_trained_on(run) == {tmp_path / "data" / "images" / "a.png"}
    (run / "config.yaml").write_text(dump_yaml({"name": "run", "data": {"train": data | {"root": "gone"}}}))
    assert images_trained_on(run) is None


def test_a_recipe_that_nobody_named_runs_no_code(tmp_path, monkeypatch):
    (tmp_path / "best.safetensors").touch()
    data = {"kind": "torch", "dataset": "some_module:Data"}
    (tmp_path / "config.yaml").write_text(dump_yaml({"name": "run", "data": {"train": data}}))
    opened = []
    monkeypatch.setattr("polyscale.training.seen.open_training_data", opened.append)
    assert images_trained_on(tmp_path) is None
    assert not opened
