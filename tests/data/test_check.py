import json
import os

import numpy as np
import pytest
from PIL import Image

from polyscale.data import FolderConfig, StreetsConfig, check_data, check_files, check_splits, open_data
from polyscale.errors import UserError
from polyscale.labels import LabelClass, LabelSpace

SPACE = LabelSpace(
    name="three",
    classes=tuple(LabelClass(name=name, color=(i, i, i)) for i, name in enumerate(("road", "sky", "pole"))),
)
RNG = np.random.default_rng(0)


def write(root, name, mask, image=None):
    for folder in ("images", "masks"):
        (root / folder / name).parent.mkdir(parents=True, exist_ok=True)
    if image is None:
        image = RNG.integers(0, 256, (*np.shape(mask), 3), dtype=np.uint8)
    Image.fromarray(image).save(root / f"images/{name}.png")
    Image.fromarray(np.asarray(mask, np.uint8)).save(root / f"masks/{name}.png")


@pytest.fixture
def root(tmp_path):
    SPACE.to_yaml(tmp_path / "label_space.yaml")
    write(tmp_path, "train/a", [[0, 0, 1], [2, 2, 255]])
    write(tmp_path, "train/b", [[0, 0], [1, 1]])
    write(tmp_path, "val/c", [[0, 1, 2]])
    return tmp_path


def splits(root):
    return {name: open_data(root, split=name, lenient=True) for name in ("train", "val")}


def kinds(report):
    return [problem.kind for problem in report.problems]


def test_a_good_set_is_counted_and_usable(root):
    report = check_data(open_data(root, split="train"), name="train")
    assert report.usable
    assert report.problems == ()
    assert (report.num_images, report.num_usable, report.num_masks) == (2, 2, 2)
    assert [tuple(row) for row in report.classes] == [("road", 4, 0.4, 2), ("sky", 3, 0.3, 2), ("pole", 2, 0.2, 1)]
    assert tuple(report.ignored) == ("(ignored)", 1, 0.1, 1)
    assert report.sizes == ((2, 2, 1), (2, 3, 1))
    assert report.summary() == "train: 2 images, usable"


def test_progress_and_workers(root):
    steps = []
    reports = check_splits(splits(root), workers=2, progress=lambda *step: steps.append(step))
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert list(reports) == ["train", "val"]
    assert all(report.usable for report in reports.values())


def test_every_kind_of_error_is_reported_at_once(root):
    write(root, "train/truncated", [[0, 0, 0]] * 30)
    path = root / "images/train/truncated.png"
    path.write_bytes(path.read_bytes()[:100])
    (root / "images/train/empty.jpg").touch()
    write(root, "train/size", [[0, 0]], image=np.full((2, 2, 3), 99, np.uint8))
    write(root, "train/ids", [[0, 9]])
    write(root, "train/bare", [[0, 0]])
    (root / "masks/train/bare.png").unlink()
    write(root, "train/both", [[9, 9]])
    (root / "images/train/both.png").write_bytes(b"no image")
    report = check_data(splits(root)["train"], name="train")
    assert not report.usable
    assert [(problem.kind, problem.name) for problem in report.problems] == [
        ("unreadable", "both"),
        ("unreadable", "empty"),
        ("unreadable", "truncated"),
        ("missing", "bare"),
        ("missing", "empty"),
        ("size", "size"),
        ("ids", "both"),
        ("ids", "ids"),
    ]
    messages = " ".join(problem.message for problem in report.problems)
    for part in ("empty.jpg is empty (0 bytes)", "size.png is 2 x 1 pixels", "9 (1 px)", "bare.png has no mask"):
        assert part in messages
    assert report.num_images - report.num_usable == 6
    assert report.classes[0].pixels == 4
    assert report.summary() == "train: 8 images, not usable (3 unreadable, 2 missing, 1 size, 2 ids)"


def test_missing_masks_are_no_error_where_they_are_optional(root):
    (root / "masks/train/a.png").unlink()
    report = check_data(open_data(FolderConfig(root=root, split="train", masks="optional")))
    assert report.usable
    assert report.num_masks == 1


def test_masks_without_image_are_a_warning(root):
    (root / "images/train/b.png").unlink()
    report = check_data(splits(root)["train"])
    assert report.usable
    assert [(problem.kind, problem.name) for problem in report.problems] == [
        ("orphan", str(root / "masks/train/b.png"))
    ]


def test_images_of_too_few_bits_are_a_warning(root):
    write(root, "train/b", [[0, 0], [1, 1]], np.array([[900, 4095], [0, 17]], np.uint16))  # 12 bits of 16
    report = check_data(splits(root)["train"])
    assert report.usable
    assert [(problem.kind, problem.name) for problem in report.problems] == [("dark", "b")]
    assert "values up to 15 of 255 once its 16 bits are read as 8" in report.problems[0].message
    write(root, "train/b", [[0, 0], [1, 1]], np.array([[0, 1], [2, 3]], np.uint8))
    (problem,) = check_data(splits(root)["train"]).problems
    assert "its 16 bits" not in problem.message
    assert "a mask among the images?" in problem.message


def test_absent_and_rare_classes_and_ignored_masks_are_warnings(root):
    mask = np.zeros((50, 50), np.uint8)
    mask[0, 0] = 2
    write(root, "val/c", mask)
    write(root, "val/d", np.full((3, 3), 255))
    report = check_data(splits(root)["val"], name="val")
    assert report.usable
    assert [(problem.kind, problem.name) for problem in report.problems] == [
        ("ignored", "d"),
        ("absent", "sky"),
        ("rare", "pole"),
    ]
    assert "0.040 % of the labelled pixels, 1 of 2 images" in report.problems[2].message


def test_a_set_without_one_labelled_pixel_is_not_usable(root):
    write(root, "val/c", np.full((3, 3), 255))
    report = check_data(splits(root)["val"])
    assert not report.usable
    assert "unlabelled" in kinds(report)


def test_an_image_in_two_splits_is_a_leak_in_whatever_format(root):
    with Image.open(root / "images/train/a.png") as image:
        image.save(root / "images/val/copy.tif")
    (root / "masks/val/copy.png").write_bytes((root / "masks/train/a.png").read_bytes())
    reports = check_splits(splits(root))
    assert [tuple(problem)[:2] for problem in reports["train"].problems] == [("leak", "a")]
    assert [tuple(problem)[:2] for problem in reports["val"].problems] == [("leak", "copy")]
    assert "copy of val is the same image as a of train" in reports["val"].problems[0].message
    assert not reports["val"].usable
    both = splits(root)
    assert kinds(check_data(both["val"], {"train": both["train"]})) == ["leak"]
    assert check_data(both["val"]).usable


def test_duplicates_within_a_split_are_a_warning(root):
    for name in ("x", "y"):
        write(root, f"train/{name}", [[0, 0], [1, 1]], image=np.asarray(Image.open(root / "images/train/b.png")))
    report = check_data(splits(root)["train"])
    assert report.usable
    assert [problem.message for problem in report.problems] == ["x is the same image as b", "y is the same image as b"]


def test_images_of_equal_bytes_but_other_shape_are_no_duplicates(root):
    write(root, "val/e", [[0, 1, 2, 0]], image=np.full((1, 4, 3), 99, np.uint8))
    write(root, "val/f", [[0, 1], [2, 0]], image=np.full((2, 2, 3), 99, np.uint8))
    assert check_data(splits(root)["val"]).problems == ()


def test_json_and_tables(root):
    write(root, "train/ids", [[0, 9]])
    report = check_data(splits(root)["train"], name="train")
    content = json.loads(json.dumps(report.to_json()))
    assert content["usable"] is False
    assert content["classes"][0] == {"name": "road", "pixels": 4, "fraction": 0.4, "num_images": 2}
    assert content["sizes"][0] == {"height": 1, "width": 2, "num_images": 1}
    assert content["problems"][0]["kind"] == "ids"
    assert content["problems"][0]["error"] is True
    classes, sizes, problems = report.tables()
    assert classes.rows[0] == ("road", "4", "40.00 %", "2")
    assert classes.rows[-1][0] == "(ignored)"
    assert len(sizes.rows) == 3
    assert problems.rows[0][:2] == ("error", "ids")


def test_one_problem_of_many_files_is_one_row(root):
    for position in range(6):
        write(root, f"train/ids{position}", [[9] * (position + 1)])
    (root / "masks/train/a.png").write_bytes(b"no image")
    (root / "masks/train/b.png").write_bytes(b"")
    report = check_data(splits(root)["train"])
    table = report.tables(most=3)[2]
    assert [row[:3] for row in table.rows[:3]] == [
        ("error", "unreadable", "1"),
        ("error", "unreadable", "1"),
        ("error", "ids", "6"),
    ]
    text = table.rows[2][3]
    assert text.startswith("masks/train/ids0.png: ids outside the label space")
    assert text.endswith("; likewise ids1, ids2 and 3 more")
    assert report.tables(most=1)[2].rows[2][3].endswith("; likewise 5 more")
    assert len(report.to_json()["problems"]) == len(report.problems) >= 8


@pytest.mark.filterwarnings("ignore::polyscale.data.left_out.PartialImageWarning")
def test_bands_pages_and_frames_that_are_not_read_are_a_warning(root):
    image = RNG.integers(0, 256, (2, 2, 4), dtype=np.uint8)
    Image.fromarray(image, "RGBX").save(root / "images/train/b.tif")
    (root / "images/train/b.png").unlink()
    report = check_data(splits(root)["train"])
    assert report.usable
    assert report.num_usable == 2
    assert [(problem.kind, problem.name) for problem in report.problems] == [("partial", "b")]
    assert "has 4 bands, of which only the first three are read" in report.problems[0].message


def test_drawn_data_can_be_checked():
    report = check_data(open_data(StreetsConfig(count=2, size=(64, 96))), name="streets")
    assert (report.num_images, report.num_masks, report.sizes) == (2, 2, ((64, 96, 2),))
    assert sum(row.pixels for row in report.classes) == 2 * 64 * 96


def test_check_files_passes_or_names_the_first_three(root):
    check_files(splits(root)["train"])
    check_files(open_data(StreetsConfig(count=1)))
    for name in "vwxyz":
        write(root, f"train/{name}", [[9, 0]])
    with pytest.raises(UserError) as caught:
        check_files(splits(root)["train"], workers=1)
    message = str(caught.value)
    assert message.startswith(f"5 of 7 images of {root} (train) cannot be used: ")
    assert [f"masks/train/{name}.png" in message for name in "vwxyz"] == [True, True, True, False, False]
    assert message.endswith("`polyscale data check` lists them all")
    assert "\n" not in message
    assert caught.value.kind == "ids"


def test_check_files_decodes_everything(root):
    write(root, "train/big", RNG.integers(0, 3, (64, 64)))
    path = root / "images/train/big.png"
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(UserError, match=r"1 of 3 images of .*big\.png cannot be read"):
        check_files(splits(root)["train"])


def test_check_files_remembers_what_was_good_until_it_changes(root, tmp_path):
    cache = tmp_path / "cache"

    def files_read(data=None):
        steps = []
        check_files(data or splits(root)["train"], lambda *step: steps.append(step), cache_dir=cache)
        return len(steps)

    assert files_read() == 2
    assert files_read() == 0
    path = root / "masks/train/a.png"
    os.utime(path, ns=(1, 1))
    assert files_read() == 1
    write(root, "train/b", [[9, 9]])
    for _ in range(2):  # what was bad is not remembered
        with pytest.raises(UserError, match="1 of 2 images"):
            files_read()
    SPACE.model_copy(update={"ignore_unknown": True}).to_yaml(root / "label_space.yaml")
    assert files_read() == 2
    for entry in cache.iterdir():
        entry.write_text("{damaged")
    assert files_read() == 2


def test_check_files_refuses_a_set_without_one_labelled_pixel(root, tmp_path):
    write(root, "train/a", [[255, 255]])
    check_files(splits(root)["train"])  # b has labels
    write(root, "train/b", [[255]])
    for _ in range(2):  # also at the next start
        with pytest.raises(UserError, match="no mask of .* has a pixel that counts"):
            check_files(splits(root)["train"], cache_dir=tmp_path / "cache")


def test_a_cache_that_cannot_be_written_does_no_harm(root):
    (root / "file").touch()
    check_files(splits(root)["train"], cache_dir=root / "file")


def test_the_real_camvid_is_usable(camvid):
    report = check_data(open_data(camvid, split="val"), name="val")
    assert report.usable
    assert report.sizes == ((360, 480, 101),)
    assert report.classes[3].fraction == pytest.approx(0.2895, abs=5e-5)
