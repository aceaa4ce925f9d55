from fractions import Fraction

import numpy as np
import pytest
import torch

from polyscale.cli import main
from polyscale.labels import LabelSpace


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A checkpoint of the smallest network, untrained."""
    from polyscale.models import ModelConfig, build_model, save_checkpoint

    torch.manual_seed(0)
    space = LabelSpace.model_validate(
        {"classes": [{"name": "person", "color": (128, 64, 128)}, {"name": "sky", "color": (0, 0, 255)}]}
    )
    config = ModelConfig.model_validate({"backbone": {"name": "tiny"}, "decoder": {"kind": "light"}})
    path = tmp_path_factory.mktemp("checkpoint") / "model.safetensors"
    save_checkpoint(path, build_model(config, space), space)
    return str(path)


@pytest.fixture
def clip(tmp_path):
    """Four frames of noise, with odd sides."""
    import av

    path = tmp_path / "clip.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=Fraction(25))
        stream.height, stream.width, stream.pix_fmt = 33, 47, "bgr0"
        rng = np.random.default_rng(0)
        for _ in range(4):
            pixels = rng.integers(0, 256, (33, 47, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def test_a_video_is_labelled(checkpoint, clip, tmp_path, capsys):
    import av

    out = tmp_path / "out.mp4"
    arguments = [
        "video",
        checkpoint,
        str(clip),
        str(out),
        "--show",
        "attention",
        "--scales",
        "0.5,1",
        "--smooth",
        "0.5",
    ]
    assert main([*arguments, "--size", "24x31"]) == 0
    shown = capsys.readouterr()
    assert shown.out == f"{out}\n"
    assert "4 frames in" in shown.err
    with av.open(str(out)) as container:
        assert len(list(container.decode(video=0))) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--size", "24"], "--size must be HEIGHTxWIDTH"),
        (["--show", "colours"], "unknown picture 'colours'"),
        (["--every", "0"], "--every"),
        (["--smooth", "2"], "smoothing must lie in"),
    ],
)
def test_bad_options_are_one_line(checkpoint, clip, tmp_path, capsys, options, message):
    assert main(["video", checkpoint, str(clip), str(tmp_path / "out.mp4"), *options]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: ")
    assert message in shown
    assert shown.count("\n") == 1
    assert not (tmp_path / "out.mp4").exists()


def test_a_background_behind_a_video_and_a_picture(checkpoint, clip, tmp_path, capsys):
    from PIL import Image

    out = tmp_path / "out.mkv"
    assert main(["background", checkpoint, str(clip), str(out), "--keep", "person", "--with", "green"]) == 0
    shown = capsys.readouterr()
    assert shown.out == f"{out}\n"
    assert "4 frames in" in shown.err
    Image.new("RGB", (31, 17), "red").save(tmp_path / "photo.png")
    arguments = ["background", checkpoint, str(tmp_path / "photo.png"), str(tmp_path / "out.png"), "--keep", "sky"]
    assert main([*arguments, "--no-refine"]) == 0
    with Image.open(tmp_path / "out.png") as picture:
        assert picture.size == (31, 17)
    assert main(arguments) == 2
    assert "is there already; choose another name, or --replace it" in capsys.readouterr().err
    assert main([*arguments[:-1], "dog", "--replace"]) == 2
    assert "knows no class 'dog'" in capsys.readouterr().err


def test_video_and_background_know_a_network_of_their_own(clip, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("streets", "person"):  # folders that happen to have a network's name
        (tmp_path / name).mkdir()
    options = ["--size", "32x32", "--scales", "1", "--device", "cpu"]
    assert main(["video", str(clip), str(tmp_path / "seen.mkv"), *options]) == 0
    assert "with streets, which ships" in capsys.readouterr().err
    assert main(["background", str(clip), str(tmp_path / "behind.mkv"), *options]) == 0
    assert "with person, which ships" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["video", "background"])
@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (["peple", "in.mp4", "out.mp4"], "did you mean 'people'"),
        (["in.mp4"], "two names are needed, IN and OUT"),
        (["people", "in.mp4"], "two names are needed, IN and OUT"),
        (["people"], "people is a network; name IN and OUT after it"),
        (["in.mp4", "out.mp4"], "no such video, picture, folder or list: in.mp4"),
        (["mynet", "in.mp4", "out.mp4"], "no file, folder or network is called 'mynet'"),
        (["people", "in.mp4", "out.mp4", "more.mp4"], "two names are needed, IN and OUT"),
        (["none.mp4", "in.mp4", "out.mp4"], "no checkpoint at none.mp4"),
    ],
)
def test_what_video_and_background_are_given_is_told_apart(command, parts, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([command, *parts]) == 2
    assert message in capsys.readouterr().err
