import os
import sys

import numpy as np
import pytest
from PIL import Image

from polyscale.autolabel.folder import write_data_set
from polyscale.autolabel.source import CoarseLabels, find_source
from polyscale.config import dump_yaml
from polyscale.data import open_data
from polyscale.errors import UserError
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


def test_folders_of_auto_labels_are_not_images(tmp_path):
    touch(tmp_path, "x.png", "auto1/masks/x.png", "auto1/confidence/x.png")
    (tmp_path / "auto1" / "autolabel.json").write_text("{}")
    assert list(find_source(tmp_path, tmp_path / "auto2").paths) == ["x"]


def test_links_between_folders_do_not_multiply_images(tmp_path):
    touch(tmp_path, "a/1.png", "b/2.png", "other/photos/3.png")
    (tmp_path / "a" / "l").symlink_to("../b")
    (tmp_path / "b" / "l").symlink_to("../a")
    for folder in ("c", "d"):
        (tmp_path / folder).mkdir()
        for to in "cd":
            (tmp_path / folder / to).symlink_to(f"../{to}")
    names = ["a/1", "a/l/2", "b/2", "b/l/1", "other/photos/3"]
    assert list(find_source(tmp_path, tmp_path / "out").paths) == names
    (tmp_path / "link").symlink_to("other/photos")
    source = find_source(f"{tmp_path}/link/../photos", tmp_path / "out")  # as the system reads it
    assert source.paths == {"3": tmp_path / "other/photos/3.png"}


def test_a_tree_with_folders_called_images_is_no_data_set(tmp_path):
    touch(tmp_path, "s/1/images/a.png", "s/2/images/a.png", "t/images/a.png", "t/more/b.png", "u/images/a.png")
    assert list(find_source(tmp_path / "s", tmp_path / "out").paths) == ["1/images/a", "2/images/a"]
    assert list(find_source(tmp_path / "t", tmp_path / "out").paths) == ["images/a", "more/b"]
    assert list(find_source(tmp_path / "u", tmp_path / "out").paths) == ["a"]


def test_a_data_set_of_the_names_finds_the_same_images(tmp_path, space):
    names = ["a.jpg", "b.png", "c, d.png", "e#f.png", "sub/g h.png"]
    touch(tmp_path / "p", *names, "elsewhere/twice.png", "elsewhere/twice.jpg")
    (tmp_path / "p" / "list.txt").write_text("".join(f"{name}\n" for name in names))
    source = find_source(tmp_path / "p" / "list.txt", tmp_path / "out")
    assert len(source.paths) == len(names)
    write_data_set(tmp_path / "out", source.template, list(source.paths))
    space.to_yaml(tmp_path / "out" / "label_space.yaml")
    touch(tmp_path / "out" / "masks", *(f"{name}.png" for name in source.paths))
    assert {item.name: item.image for item in open_data(tmp_path / "out").items} == source.paths


@pytest.mark.parametrize(
    ("names", "listed", "message"),
    [
        (["a.jpg", "b.png", "a.png"], "a.jpg\nb.png\n", "a.png has the name of an image that is to be labelled"),
        ([".h/a.png", "b.png"], ".h/a.png\nb.png\n", "'.h/a' is hidden"),
        (["a\u2028b.png"], None, "cannot stand in a list"),
        (["a\rb.png"], None, "cannot stand in a list"),
        (["a\u00a0#b.png"], None, "cannot stand in a list"),
    ],
)
def test_what_a_data_set_would_not_find_again_is_refused(tmp_path, names, listed, message):
    touch(tmp_path, *names)
    if listed is not None:
        (tmp_path / "list.txt").write_text(listed)
    with pytest.raises(UserError, match=message) as caught:
        find_source(tmp_path / "list.txt" if listed is not None else tmp_path, tmp_path / "out")
    assert "\n" not in str(caught.value)


def test_images_without_a_common_folder_are_refused(tmp_path, monkeypatch):
    touch(tmp_path, "a/1.png", "b/2.png", "lists/3.png")
    (tmp_path / "lists" / "l.txt").write_text("../a/1.png\n../b/2.png\n")
    monkeypatch.setattr("os.path.commonpath", lambda paths: "/")
    with pytest.raises(UserError, match="have only / in common"):
        find_source(tmp_path / "lists" / "l.txt", tmp_path / "out")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems keep file names as text")
def test_names_that_are_no_text_are_refused(tmp_path):
    touch(tmp_path, "a.png")
    (tmp_path / "a.png").rename(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png"))
    with pytest.raises(UserError, match="cannot stand in a list") as caught:
        find_source(tmp_path, tmp_path / "out")
    str(caught.value).encode()  # can be printed


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
