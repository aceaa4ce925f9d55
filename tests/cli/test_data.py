import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from polyscale.cli import main


@pytest.fixture(scope="module")
def streets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "streets"
    arguments = ["data", "draw", str(folder), "--train", "2", "--val", "1", "--size", "64x96", "--seed", "3"]
    assert main(arguments) == 0
    return folder


@pytest.fixture
def copy(streets, tmp_path):
    return shutil.copytree(streets, tmp_path / "copy")


def test_drawn_streets_are_usable(streets, capsys):
    assert main(["data", "check", str(streets)]) == 0
    shown = capsys.readouterr().out
    assert "train: 2 images, usable" in shown
    assert "val: 1 images, usable" in shown
    assert "96 x 64" in shown
    with Image.open(next((streets / "images" / "train").iterdir())) as image:
        assert image.size == (96, 64)


def test_drawing_again_draws_nothing(streets, capsys):
    arguments = ["data", "draw", str(streets), "--train", "2", "--val", "1", "--size", "64x96", "--seed", "3"]
    assert main(arguments) == 0
    captured = capsys.readouterr()
    assert "0 scenes drawn, 3 were there already" in captured.err
    assert captured.out == f"{streets}\n"


def test_other_arguments_do_not_mix_into_a_folder(streets, capsys):
    assert main(["data", "draw", str(streets), "--train", "3"]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_unusable_data_are_status_one_and_every_problem_is_named(copy, tmp_path, capsys):
    first, second = sorted((copy / "masks" / "train").iterdir())
    first.write_bytes(first.read_bytes()[:100])
    Image.fromarray(np.full((64, 96), 77, np.uint8)).save(second)
    report = tmp_path / "new" / "report.json"
    assert main(["data", "check", str(copy), "--json", str(report)]) == 1
    shown = capsys.readouterr().out
    assert first.name in shown
    assert "77" in shown
    assert "train: 2 images, not usable" in shown
    assert "val: 1 images, usable" in shown
    content = json.loads(report.read_text())
    assert content["usable"] is False
    assert [split["usable"] for split in content["splits"]] == [False, True]
    assert {problem["kind"] for problem in content["splits"][0]["problems"] if problem["error"]} == {
        "unreadable",
        "ids",
    }


def test_one_split_can_be_checked_alone(copy, capsys):
    next((copy / "masks" / "train").iterdir()).unlink()
    assert main(["data", "check", str(copy), "--split", "val"]) == 0
    assert main(["data", "check", f"{copy}:val"]) == 0
    assert main(["data", "check", str(copy), "--split", "val,train"]) == 1
    capsys.readouterr()
    assert main(["data", "check", str(copy), "--split", "vla"]) == 2
    assert "vla" in capsys.readouterr().err


def test_a_folder_without_label_space_gets_a_suggestion_that_works(copy, tmp_path, capsys):
    space = copy / "label_space.yaml"
    space.unlink()
    assert main(["data", "check", str(copy)]) == 2
    captured = capsys.readouterr()
    assert "has no label space" in captured.err
    assert captured.err.count("\n") == 1
    suggestion = tmp_path / "suggested.yaml"
    suggestion.write_text(captured.out)
    assert main(["data", "check", str(copy), "--labels", str(suggestion)]) == 0
    suggestion.replace(space)
    assert main(["data", "check", str(copy)]) == 0


def test_a_check_of_nothing_is_no_success(streets, capsys):
    assert main(["data", "check", str(streets), "--split", ","]) == 2
    assert capsys.readouterr().err.startswith("error: --split names no split")


def test_a_report_that_cannot_be_written_is_told_before_the_reading(streets, tmp_path, capsys):
    (tmp_path / "file").touch()
    for place in (tmp_path, tmp_path / "file" / "report.json"):
        assert main(["data", "check", str(streets), "--json", str(place)]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith("error: cannot write")


def test_a_partly_read_image_is_one_line_of_warning(copy, tmp_path):
    path = next((copy / "images" / "train").iterdir())
    with Image.open(path) as image:
        image.save(path.with_suffix(".tif"), save_all=True, append_images=[image.copy()])
    path.unlink()
    command = [sys.executable, "-m", "polyscale", "data", "check", str(copy)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "partial" in run.stdout
    (line,) = (line for line in run.stderr.splitlines() if "pages" in line)
    assert line.startswith(f"warning: {path.with_suffix('.tif')} has several pages, of which only the first is read")


@pytest.mark.parametrize(
    ("like", "image"),
    [
        ("cityscapes", "leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png"),
        ("cityscapes-nested", "leftImg8bit_trainvaltest/leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png"),
        ("mapillary-1.2", "training/images/*.jpg"),
        ("mapillary-2.0", "training/v2.0/labels/*.png"),
    ],
)
def test_streets_can_be_drawn_in_the_form_of_a_published_data_set(tmp_path, capsys, like, image):
    out = tmp_path / "out"
    assert main(["data", "draw", str(out), "--like", like, "--train", "1", "--val", "1", "--size", "64x128"]) == 0
    assert len(list(out.glob(image))) == 1
    assert main(["data", "check", str(out)]) == 0
    assert "val: 1 images, usable" in capsys.readouterr().out


def test_options_of_another_layout_are_refused(tmp_path, capsys):
    assert main(["data", "draw", str(tmp_path), "--extra", "1"]) == 2
    assert main(["data", "draw", str(tmp_path), "--like", "mapillary-1.2", "--coarse"]) == 2
    assert capsys.readouterr().err.count("leave it out") == 2


def test_ranges_print_the_key_of_the_data(tmp_path, capsys):
    for name, value in (("a", 10), ("b", 110)):
        Image.fromarray(np.full((4, 4, 4), value, np.uint8)).save(tmp_path / f"{name}.png")
    assert main(["data", "ranges", str(tmp_path), "--percentiles", "0,100"]) == 0
    expected = "bands: {channels: [1, 2, 3, 4], ranges: [[10, 110], [10, 110], [10, 110], [10, 110]]}\n"
    assert capsys.readouterr().out == expected
    assert main(["data", "ranges", str(tmp_path), "--percentiles", "9"]) == 2
    assert "--percentiles must be two numbers" in capsys.readouterr().err
