import numpy as np
import pytest
from PIL import Image

from polyscale.cli import main
from polyscale.data import open_data


@pytest.fixture(scope="module")
def streets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "streets"
    assert main(["data", "draw", str(folder), "--train", "2", "--val", "1", "--size", "64x96"]) == 0
    return folder


@pytest.mark.parametrize("tool", ["coco", "cvat", "supervisely"])
def test_labels_go_out_and_come_back(streets, tmp_path, capsys, tool):
    out = tmp_path / "out"
    command = ["export-labels", str(streets), "--split", "train", "--to", tool, "--out", str(out)]
    assert main(command) == 0
    path = capsys.readouterr().out.strip()
    given = open_data(streets, "train")
    names = ",".join(given.label_space.names)
    options = [] if tool == "supervisely" else ["--images", str(streets / "images/train"), "--classes", names]
    assert main(["data", "convert", path, str(tmp_path / "back"), "--background", "ignore", *options]) == 0
    back = open_data(tmp_path / "back")
    assert back.label_space.names == given.label_space.names
    for index in range(2):
        np.testing.assert_array_equal(back.read(index).labels, given.read(index).labels)


def test_predictions_are_exported_with_their_images(streets, tmp_path, capsys):
    predicted = tmp_path / "predicted"
    given = open_data(streets, "val")
    (predicted / "labels").mkdir(parents=True)
    (predicted / "predictions.yaml").write_text("written_by: a test\n")
    given.label_space.to_yaml(predicted / "label_space.yaml")
    Image.fromarray(given.read(0).labels).save(predicted / f"labels/{given.items[0].name}.png")
    command = ["export-labels", str(predicted), "--to", "coco", "--out", str(tmp_path / "out")]
    assert main(command) == 2
    assert "name the images' folder with --images" in capsys.readouterr().err
    assert main([*command, "--images", str(streets / "images/val")]) == 0
    path = capsys.readouterr().out.strip()
    back = ["data", "convert", path, str(tmp_path / "back"), "--images", str(streets / "images/val")]
    assert main([*back, "--background", "ignore"]) == 0
    np.testing.assert_array_equal(open_data(tmp_path / "back").read(0).labels, given.read(0).labels)
    assert main(["export-labels", str(streets), "--to", "coco", "--out", str(tmp_path / "x"), "--images", "a"]) == 2
    assert "leave it out" in capsys.readouterr().err
