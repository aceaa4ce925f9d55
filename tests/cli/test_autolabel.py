import numpy as np
import pytest
import torch
from PIL import Image

from polyscale.cli import main
from polyscale.cli.autolabel import parse_by_class
from polyscale.errors import UserError
from polyscale.labels import LabelSpace


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    from polyscale.models import ModelConfig, build_model, save_checkpoint

    torch.manual_seed(0)
    space = LabelSpace.model_validate(
        {"classes": [{"name": "road", "color": (128, 64, 128), "ids": (7,)}, {"name": "sky", "color": (0, 0, 255)}]}
    )
    config = ModelConfig.model_validate({"backbone": {"name": "tiny"}, "decoder": {"kind": "light"}})
    path = tmp_path_factory.mktemp("checkpoint") / "model.safetensors"
    save_checkpoint(path, build_model(config, space), space)
    return str(path)


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    (folder / "night").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("a.png", "night/b.jpg"):
        Image.fromarray(rng.integers(0, 256, (17, 23, 3), dtype=np.uint8)).save(folder / name)
    return folder


def test_label_then_threshold_again(checkpoint, images, tmp_path, capsys):
    out = str(tmp_path / "out")
    # Without the word `run`, as with it.
    arguments = ["autolabel", checkpoint, str(images), "--out", out, "--confidence", "--device", "cpu"]
    assert main(arguments) == 0
    shown = capsys.readouterr()
    assert "2 images in" in shown.out
    assert shown.out.strip().endswith(out)
    assert "the network was busy" in shown.err
    assert main(["autolabel", "run", *arguments[1:]]) == 0
    assert main(["autolabel", "rethreshold", out, "--threshold", "0.3,road=0.9"]) == 0
    assert " 0.9 " in capsys.readouterr().out
    assert main(["data", "check", out]) == 0


def test_a_skipped_image_is_status_one_and_none_labelled_is_status_two(checkpoint, images, tmp_path, capsys):
    (images / "broken.png").write_bytes(b"no image")
    assert main(["autolabel", checkpoint, str(images), "--out", str(tmp_path / "out"), "--device", "cpu"]) == 1
    shown = capsys.readouterr().err
    assert "skipped: " in shown
    assert "1 of 3 images could not be labelled" in shown
    (tmp_path / "only").mkdir()
    (images / "broken.png").rename(tmp_path / "only" / "broken.png")
    assert main(["autolabel", checkpoint, str(tmp_path / "only"), "--out", str(tmp_path / "o")]) == 2
    assert "error: none of 1 images could be labelled" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{checkpoint}", "{images}/none"], "no such data set"),
        (["{images}/none.safetensors", "{images}"], "no checkpoint at"),
        (["{checkpoint}", "{images}", "--threshold", "1.5"], "threshold"),
        (["{checkpoint}", "{images}", "--threshold", "high"], "--threshold needs numbers"),
        (["{checkpoint}", "{images}", "--threshold", "0.5,tram=0.9"], "unknown class 'tram'"),
        (["{checkpoint}", "{images}", "--drop", "tram"], "unknown class 'tram'"),
        (["{checkpoint}", "{images}", "--keep", "0"], "keep"),
        (["{checkpoint}", "{images}", "--coarse-mode", "maybe"], "coarse"),
        (["{checkpoint}", "{images}", "--coarse", "{images}/none"], "no such data set"),
        (["{checkpoint}", "{images}", "--frame", "{images}/none.png"], "no such image file"),
        (["{checkpoint}", "{images}", "--scales", "0.5"], "must contain 1"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(checkpoint, images, tmp_path, capsys, arguments, message):
    filled = [argument.format(checkpoint=checkpoint, images=images) for argument in arguments]
    assert main(["autolabel", *filled, "--out", str(tmp_path / "out"), "--device", "cpu"]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    assert message in shown.err
    assert shown.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_values_by_class():
    assert parse_by_class("--threshold", "0.5, pole=0.8,a=b=0.1", float, None) == (0.5, {"pole": 0.8, "a=b": 0.1})
    assert parse_by_class("--keep", "pole=0.8", float, None) == (None, {"pole": 0.8})
    for text, message in (("0.5,0.6", "2 values for all classes"), ("a=1,a=0", "names class 'a' twice")):
        with pytest.raises(UserError, match=message):
            parse_by_class("--threshold", text, float, None)
