import os

import pytest

from polyscale.data.images import IMAGE_SUFFIXES
from polyscale.data.layout import first_three, keep, list_items, list_template, pair, template_parts
from polyscale.errors import UserError


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def names(found):
    return [item.name for item in found.items]


def split_file(root, text):
    (root / "list.txt").write_text(text, encoding="utf-8")
    return list_items(root, "images/{name}", "masks/{name}", None, root / "list.txt")


def test_a_template_without_suffix_takes_any_image_in_any_folder(tmp_path):
    touch(tmp_path, "images/b.JPG", "images/x/y/a.png", "images/x.y.webp", "images/notes.txt", "images/noname")
    found = list_template(tmp_path, "images/{name}", None, IMAGE_SUFFIXES, "image")
    assert {name: path.relative_to(tmp_path).as_posix() for name, path in found.items()} == {
        "b": "images/b.JPG",
        "x/y/a": "images/x/y/a.png",
        "x.y": "images/x.y.webp",
    }


def test_a_template_with_a_suffix_takes_only_that(tmp_path):
    touch(tmp_path, "a/val/c/1_left.png", "a/val/c/1_right.png", "a/val/c/2_left.jpg", "a/train/3_left.png")
    assert list(list_template(tmp_path, "a/{split}/{name}_left.png", "val", IMAGE_SUFFIXES, "image")) == ["c/1"]


def test_a_name_may_stand_twice_and_in_the_middle(tmp_path):
    touch(tmp_path, "s1/image/s1.png", "s2/image/s1.png", "s3/mask/s3.png")
    assert list(list_template(tmp_path, "{name}/image/{name}.png", None, IMAGE_SUFFIXES, "image")) == ["s1"]


def test_special_characters_of_a_template_mean_themselves(tmp_path):
    touch(tmp_path, "a+b/x(1).png", "aab/x1.png")
    assert list(list_template(tmp_path, "a+b/{name}(1).png", None, IMAGE_SUFFIXES, "image")) == ["x"]


def test_hidden_files_and_folders_are_left_out(tmp_path):
    touch(tmp_path, "images/._a.jpg", "images/.cache/b.jpg", "images/c.jpg")
    assert list(list_template(tmp_path, "images/{name}", None, IMAGE_SUFFIXES, "image")) == ["c"]


def test_links_to_folders_are_followed_but_not_in_circles(tmp_path):
    touch(tmp_path, "elsewhere/a.jpg", "images/b.jpg")
    (tmp_path / "images/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "images/circle").symlink_to(tmp_path / "images")
    assert sorted(list_template(tmp_path, "images/{name}", None, IMAGE_SUFFIXES, "image")) == ["b", "linked/a"]


def test_two_files_of_one_name_are_refused(tmp_path):
    touch(tmp_path, "images/a.jpg", "images/a.png")
    with pytest.raises(UserError, match=r"two images have the name 'a': .*a\.jpg and .*a\.png; rename one"):
        list_template(tmp_path, "images/{name}", None, IMAGE_SUFFIXES, "image")


def test_templates_need_a_name_and_a_split(tmp_path):
    with pytest.raises(UserError, match=r"mask template 'masks/\*.png' has no \{name\}"):
        template_parts(tmp_path, "masks/*.png", None, "mask")
    with pytest.raises(UserError, match=r"has \{split\}, but no split is given"):
        template_parts(tmp_path, "masks/{split}/{name}", None, "mask")


def test_a_missing_folder_is_named_with_its_neighbours(tmp_path):
    touch(tmp_path, "images/train/a.jpg", "images/val/a.jpg")
    with pytest.raises(UserError, match=r"no folder .*images/tset for the images; .*images has the folders train, val"):
        list_template(tmp_path, "images/{split}/{name}", "tset", IMAGE_SUFFIXES, "image")


def test_pairs_are_sorted_and_masks_without_image_kept_apart(tmp_path):
    path = tmp_path / "x"
    found = pair({"b": path / "b", "a": path / "a"}, {"c": path / "c.png", "a": path / "a.png"})
    assert found.items == (("a", path / "a", path / "a.png"), ("b", path / "b", None))
    assert found.orphans == (path / "c.png",)


def test_a_split_file_lists_names_and_paths(tmp_path):
    touch(tmp_path, "images/a.jpg", "images/x/b.jpg", "images/with space.jpg", "images/c.jpg", "images/unlisted.jpg")
    touch(tmp_path, "masks/a.png", "masks/x/b.png", "masks/c.png", "masks/unlisted.png", "other/d.png", "other/d m.png")
    found = split_file(
        tmp_path,
        "\ufeff# the training images\n\nx/b   # nested\nwith space\nimages/c.jpg\na.jpg\nother/d.png\tother/d m.png\n",
    )
    assert [(item.name, item.image.relative_to(tmp_path).as_posix()) for item in found.items] == [
        ("a", "images/a.jpg"),
        ("c", "images/c.jpg"),
        ("other/d", "other/d.png"),
        ("with space", "images/with space.jpg"),
        ("x/b", "images/x/b.jpg"),
    ]
    masks = [None if item.mask is None else item.mask.relative_to(tmp_path).as_posix() for item in found.items]
    assert masks == ["masks/a.png", "masks/c.png", "other/d m.png", None, "masks/x/b.png"]
    assert found.orphans == ()


@pytest.mark.parametrize("separator", [" ", "\t", ",", ", ", "   "])
def test_a_split_file_may_give_masks(tmp_path, separator):
    touch(tmp_path, "images/a.jpg", "masks/a.png", "other/m.png")
    assert split_file(tmp_path, f"images/a.jpg{separator}other/m.png").items[0].mask == tmp_path / "other/m.png"
    assert split_file(tmp_path, f"a{separator}other/m.png").items[0].mask == tmp_path / "other/m.png"


def test_absolute_paths_in_a_split_file(tmp_path):
    touch(tmp_path, "far/p/a.jpg", "near/images/b.jpg", "near/masks/b.png")
    found = split_file(tmp_path / "near", f"{tmp_path}/far/p/a.jpg\n{tmp_path}/near/images/b.jpg\n")
    assert [item.image for item in found.items] == [tmp_path / "near/images/b.jpg", tmp_path / "far/p/a.jpg"]
    assert found.items[0] == ("b", tmp_path / "near/images/b.jpg", tmp_path / "near/masks/b.png")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\nb\nc/d\ne\nf\n", r"lists what does not exist \(4 of 5 images\): b, c/d, e and 1 more; a line is"),
        ("a masks/none.png\n", r"lists what does not exist \(1 of 1 images\): a masks/none\.png"),
        ("a\nimages/a.jpg\n", r"lists 'a' twice"),
    ],
)
def test_a_split_file_that_lists_what_is_not_there_is_refused(tmp_path, text, message):
    touch(tmp_path, "images/a.jpg", "masks/a.png")
    with pytest.raises(UserError, match=message):
        split_file(tmp_path, text)


@pytest.mark.parametrize(
    "line",
    [
        "../b.jpg",
        "images/../../b.jpg",
        "a ../b.png",
        "images/a.jpg,../b.png",
        "{far}/../b.jpg",
        "images/\0.jpg",
        "a\x1bb",
    ],
)
def test_a_split_file_does_not_lead_out_of_its_folder(tmp_path, line):
    touch(tmp_path, "b.jpg", "b.png", "root/images/a.jpg", "root/masks/a.png")
    with pytest.raises(UserError, match=r"list\.txt line 2: the file name .* (leads out|holds control)") as caught:
        split_file(tmp_path / "root", "\n" + line.format(far=tmp_path / "root") + "\n")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("template", ["../{name}", "{split}/{name}", "images\0/{name}", "images/{name}/../../{name}"])
def test_a_template_does_not_lead_out_of_its_folder(tmp_path, template):
    touch(tmp_path, "b.jpg", "root/images/a.jpg")
    with pytest.raises(UserError, match=r"leads out|holds control"):
        list_items(tmp_path / "root", template, None, "..")


def test_a_split_file_that_is_no_text_is_refused(tmp_path):
    touch(tmp_path, "images/a.jpg", "masks/a.png")
    (tmp_path / "list.txt").write_bytes(b"\xff\xfe\x00a")
    with pytest.raises(UserError, match=r"cannot read the split file .*list\.txt"):
        list_items(tmp_path, "images/{name}", None, None, tmp_path / "list.txt")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system knows no named pipes")
def test_a_pipe_in_place_of_a_split_file_is_not_waited_for(tmp_path):
    touch(tmp_path, "images/a.jpg", "masks/a.png")
    os.mkfifo(tmp_path / "list.txt")
    with pytest.raises(UserError, match=r"cannot read the split file .*list\.txt: it is no regular file"):
        list_items(tmp_path, "images/{name}", None, None, tmp_path / "list.txt")


def test_include_and_exclude_are_patterns_of_names(tmp_path):
    found = pair({name: tmp_path / name for name in ("0001_a", "0006R0_1", "0006R0_2", "x/0006R0_3")}, {})
    assert names(keep(found, (), ("0006R0*",), "here")) == ["0001_a", "x/0006R0_3"]
    assert names(keep(found, ("*0006R0*",), ("*_2",), "here")) == ["0006R0_1", "x/0006R0_3"]
    assert names(keep(found, (), ("0006R0*",), "here", num_splits=2)) == ["0001_a"]


def test_patterns_that_fit_nothing_or_leave_nothing_are_refused(tmp_path):
    found = pair({"0006R0_1": tmp_path / "a", "b": tmp_path / "b"}, {})
    with pytest.raises(
        UserError, match=r"exclude pattern '0006RO\*' fits no image of here; names there are like 0006R0_1, b"
    ):
        keep(found, (), ("0006RO*",), "here")
    with pytest.raises(UserError, match="include and exclude leave no image of here"):
        keep(found, ("b",), ("b",), "here")


def test_first_three():
    assert first_three(["a", "b", "c"]) == "a, b, c"
    assert first_three([1, 2, 3, 4, 5]) == "1, 2, 3 and 2 more"


@pytest.mark.parametrize("name", ["a\nb", "a\rb", "a\x1bb", "a\u2028b"])
def test_a_name_with_a_line_break_is_refused_and_not_passed_over(tmp_path, name):
    touch(tmp_path, "images/plain.png", f"images/{name}.png")
    with pytest.raises(UserError, match="holds control characters, line breaks") as caught:
        list_template(tmp_path, "images/{name}", None, IMAGE_SUFFIXES, "image")
    assert name not in str(caught.value)
    touch(tmp_path, f"others/{name}.txt", "others/plain.png")
    assert list(list_template(tmp_path, "others/{name}", None, IMAGE_SUFFIXES, "image")) == ["plain"]


def test_folders_in_the_middle_of_a_path_begin_the_name(tmp_path):
    touch(tmp_path, "Tile 1/images/x.png", "Tile 2/images/x.png", "Tile 1/masks/x.png", "a/b/images/y.png")
    images = list_template(tmp_path, "{folder}/images/{name}", None, IMAGE_SUFFIXES, "image")
    assert sorted(images) == ["Tile 1/x", "Tile 2/x", "a/b/y"]
    masks = list_template(tmp_path, "{folder}/masks/{name}", None, IMAGE_SUFFIXES, "mask")
    assert pair(images, masks).items[0].mask == tmp_path / "Tile 1/masks/x.png"
    assert template_parts(tmp_path, "deep/{folder}/{name}.png", None, "image") == (
        tmp_path / "deep",
        "{folder}/{name}.png",
    )
