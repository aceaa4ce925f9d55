import numpy as np
import pytest
from PIL import Image

from polyscale.autolabel.source import CoarseLabels, find_source
from polyscale.config import UserError, dump_yaml
from polyscale.labels import LabelClass, LabelSpace


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((2, 3), np.uint8)).save(path)


def test_a_folder_is_searched_without_hidden_files_and_without_the_output(tmp_path):
    touch(tmp_path, "b/2.jpg", "a.png", ".x/3.png", "out/masks/a.png")
    source = find_source(tmp_path, tmp_path / "out")
    assert list(source.paths) == ["a", "b/2"]
    assert source.template == f"{tmp_path}/{{name}}"
    touch(tmp_path / "same", "1.png", "2.png")
    assert find_source(tmp_path / "same", tmp_path / "out").template.endswith("/same/{name}.png")


def test_a_data_set_gives_its_images_and_not_its_masks(tmp_path):
    touch(tmp_path, "images/train/a.png", "images/val/b.png", "masks/train/a.png", "masks/val/b.png")
    source = find_source(f"{tmp_path}:train", tmp_path / "out")
    assert source.paths == {"a": tmp_path / "images/train/a.png"}
    assert source.template == f"{tmp_path}/images/train/{{name}}.png"


def test_a_template_s_ending_stays_in_the_template(tmp_path):
    touch(tmp_path, "left/u/1_left.png", "left/u/2_left.png")
    values = {"kind": "folder", "root": str(tmp_path), "image": "left/{name}_left.png", "masks": "none"}
    (tmp_path / "d.yaml").write_text(dump_yaml(values))
    source = find_source(tmp_path / "d.yaml", tmp_path / "out")
    assert list(source.paths) == ["u/1", "u/2"]
    assert source.template == f"{tmp_path}/left/{{name}}_left.png"


def test_a_list_may_name_images_twice_and_elsewhere(tmp_path):
    touch(tmp_path, "x/1.png", "y/2.png")
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "l.txt").write_text(f"{tmp_path}/x/1.png\n\n# no\n../y/2.png\n../x/1.png\n")
    source = find_source(tmp_path / "lists" / "l.txt", tmp_path / "out")
    assert list(source.paths) == ["x/1", "y/2"]
    assert source.repeated == 1


def test_wrong_inputs_are_told_in_one_line(tmp_path):
    touch(tmp_path, "two/a.png", "two/a.jpg", "hash/a #1.png")
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "gone.txt").write_text("two/a.png\nnone.png\n")
    (tmp_path / "none").mkdir()
    (tmp_path / "streets.yaml").write_text("kind: streets\n")
    for where, message in (
        ("two", "two images have the name 'a'"),
        ("hash", "cannot stand in a list"),
        ("empty.txt", "lists no images"),
        ("gone.txt", "1 images that do not exist: none.png"),
        ("none", "there are no images in"),
        ("streets.yaml", "polyscale data draw"),
        ("nowhere", "no such data set"),
        ("two/a.png", "is neither a folder"),
    ):
        with pytest.raises(UserError, match=message) as caught:
            find_source(tmp_path / where, tmp_path / "out")
        assert "\n" not in str(caught.value)


def test_coarse_classes_are_matched_by_name(tmp_path, space):
    touch(tmp_path, "images/a.png", "images/b.png")
    (tmp_path / "masks").mkdir()
    Image.fromarray(np.array([[1, 0, 9]], np.uint8)).save(tmp_path / "masks" / "a.png")
    theirs = LabelSpace(
        classes=(LabelClass(name="pole", color=(1, 1, 1)), LabelClass(name="road", color=(2, 2, 2))), ignore_ids=(9,)
    )
    theirs.to_yaml(tmp_path / "label_space.yaml")
    coarse = CoarseLabels(tmp_path, space, ["a", "b"])
    assert coarse.read("a", (1, 3)).tolist() == [[0, 2, 255]]
    assert coarse.read("b", (1, 3)) is None
    with pytest.raises(UserError, match="1 x 3 pixels|3 x 1 pixels"):
        coarse.read("a", (4, 4))
    with pytest.raises(UserError, match="names there are like a"):
        CoarseLabels(tmp_path, space, ["z"])
    LabelSpace(classes=(LabelClass(name="pole", color=(1, 1, 1)), LabelClass(name="tram", color=(2, 2, 2)))).to_yaml(
        tmp_path / "label_space.yaml"
    )
    with pytest.raises(UserError, match="the teacher does not know: tram"):
        CoarseLabels(tmp_path, space, ["a"])
