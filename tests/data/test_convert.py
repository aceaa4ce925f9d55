import json

import numpy as np
import pytest
from PIL import Image

from polyscale.cli import main
from polyscale.data import open_data
from polyscale.data.convert import binary_space, form_of, open_source, plain_space, write_plain
from polyscale.errors import UserError
from polyscale.labels import IGNORE, LabelClass, LabelSpace


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path)


@pytest.fixture
def coco(tmp_path):
    save(tmp_path / "photos/deep/a.jpg", np.zeros((8, 10, 3)))
    content = {
        "images": [{"id": 1, "file_name": "deep/a.jpg", "height": 8, "width": 10}],
        "categories": [{"id": 1, "name": "car"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[0, 0, 5, 0, 5, 8, 0, 8]]}],
    }
    (tmp_path / "coco.json").write_text(json.dumps(content))
    return tmp_path / "coco.json"


def test_coco_becomes_a_plain_folder(coco, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["data", "convert", str(coco), str(out), "--images", str(tmp_path / "photos"), "--split", "train"]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    data = open_data(f"{out}:train")
    assert data.label_space.names == ("background", "car")
    assert data.items[0].name == "deep/a"
    assert data.read(0).labels.sum() == 40
    assert data.items[0].image.read_bytes() == (tmp_path / "photos/deep/a.jpg").read_bytes()
    assert main(["data", "check", str(out)]) == 0
    assert main(["data", "convert", str(coco), str(out), "--images", str(tmp_path / "photos")]) == 2
    assert "is not empty; choose a new folder" in capsys.readouterr().err


def test_images_may_be_linked(coco, tmp_path):
    command = ["data", "convert", str(coco), str(tmp_path / "out"), "--images", str(tmp_path / "photos"), "--link"]
    assert main([*command, "--background", "ignore"]) == 0
    (item,) = open_data(tmp_path / "out").items
    assert item.image.is_symlink()
    labels = open_data(tmp_path / "out").read(0).labels
    assert set(np.unique(labels)) == {0, IGNORE}


def test_binary_masks_become_two_classes(tmp_path):
    save(tmp_path / "in/images/a.png", np.zeros((2, 3, 3)))
    save(tmp_path / "in/masks/a.png", [[0, 255, 255], [0, 0, 0]])
    assert main(["data", "convert", str(tmp_path / "in"), str(tmp_path / "out"), "--binary", "crack"]) == 0
    data = open_data(tmp_path / "out")
    assert data.label_space.names == ("background", "crack")
    assert data.read(0).labels.tolist() == [[0, 1, 1], [0, 0, 0]]


def test_colours_become_ids_split_by_split(tmp_path):
    space = LabelSpace(
        name="two", classes=(LabelClass(name="a", color=(255, 0, 0)), LabelClass(name="b", color=(0, 0, 255)))
    )
    for split in ("train", "val"):
        save(tmp_path / f"in/images/{split}/x.png", np.zeros((1, 3, 3)))
        save(tmp_path / f"in/masks/{split}/x.png", [[(255, 0, 0), (0, 0, 255), (0, 0, 0)]])
    space.to_yaml(tmp_path / "in/label_space.yaml")
    (tmp_path / "in/data.yaml").write_text("color_coded: true\n")
    assert main(["data", "convert", str(tmp_path / "in"), str(tmp_path / "out")]) == 0
    for split in ("train", "val"):
        assert open_data(tmp_path / "out", split).read(0).labels.tolist() == [[0, 1, IGNORE]]
        assert np.asarray(Image.open(tmp_path / f"out/masks/{split}/x.png")).tolist() == [[0, 1, 255]]
    assert main(["data", "convert", f"{tmp_path / 'in'}:val", str(tmp_path / "one")]) == 0
    assert len(open_data(tmp_path / "one")) == 1


def test_arrays_need_a_label_space(tmp_path, capsys):
    save(tmp_path / "in/images/a.png", np.zeros((2, 3, 3)))
    (tmp_path / "in/masks").mkdir()
    np.save(tmp_path / "in/masks/a.npy", np.array([[7, 7, 8], [0, 8, 8]]))
    assert main(["data", "convert", str(tmp_path / "in"), str(tmp_path / "out")]) == 2
    assert "say what they mean with --labels" in capsys.readouterr().err
    assert main(["data", "convert", str(tmp_path / "in"), str(tmp_path / "out"), "--labels", "cityscapes"]) == 0
    assert open_data(tmp_path / "out").read(0).labels.tolist() == [[0, 0, 1], [IGNORE, 1, 1]]


def test_options_that_do_not_suit_are_refused(tmp_path, coco, capsys):
    (tmp_path / "folder/images").mkdir(parents=True)
    for arguments, message in (
        ([str(tmp_path / "none.json")], "no such file or folder"),
        ([str(tmp_path / "folder"), "--images", "x"], "--images is about coco, cvat"),
        ([str(coco), "--columns", "a,b"], "--columns is about parquet, not about labels of form 'coco'"),
        ([str(coco), "--columns", "a"], "--columns names two columns"),
        ([str(coco), "--binary", "a", "--labels", "cityscapes"], "give one of them"),
    ):
        assert main(["data", "convert", arguments[0], str(tmp_path / "out"), *arguments[1:]]) == 2
        assert message in capsys.readouterr().err


def test_other_classes_do_not_mix_into_a_folder(tmp_path):
    save(tmp_path / "in/images/a.png", np.zeros((2, 3, 3)))
    save(tmp_path / "in/masks/a.png", [[0, 255, 255], [0, 0, 0]])
    parts = open_source(tmp_path / "in", label_space=binary_space("crack"))
    write_plain(parts[None], tmp_path / "out", "train")
    with pytest.raises(UserError, match="holds labels of other classes"):
        write_plain(open_source(tmp_path / "in", label_space=binary_space("hole"))[None], tmp_path / "out", "val")
    assert plain_space(binary_space("crack")).classes[1].ids == (1,)


def test_forms_are_told_by_their_files(tmp_path):
    (tmp_path / "a.json").write_text("[{}]")
    (tmp_path / "b.json").write_text("{}")
    (tmp_path / "c.xml").touch()
    for name, form in (("a.json", "label-studio"), ("b.json", "coco"), ("c.xml", "cvat")):
        assert form_of(tmp_path / name) == form
    (tmp_path / "me").mkdir()
    (tmp_path / "me/x.json").write_text("{}")
    assert form_of(tmp_path / "me") == "masks"
    (tmp_path / "me/x.jpg").touch()
    assert form_of(tmp_path / "me") == "labelme"
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub/x.parquet").touch()
    assert form_of(tmp_path / "hub") == "parquet"
    with pytest.raises(UserError, match="no such file or folder"):
        form_of(tmp_path / "nothing")


def test_masks_of_another_size_than_their_image_are_not_written(tmp_path, capsys):
    save(tmp_path / "in/images/a.png", np.zeros((2, 3, 3)))
    save(tmp_path / "in/masks/a.png", [[0, 255], [0, 0]])
    assert main(["data", "convert", str(tmp_path / "in"), str(tmp_path / "out"), "--binary", "crack"]) == 2
    assert "a.png are 2 x 2 pixels, and the image 3 x 2; export its mask again" in capsys.readouterr().err
    assert not (tmp_path / "out/masks/a.png").exists()
