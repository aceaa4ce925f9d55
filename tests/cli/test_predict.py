import numpy as np
import pytest
import torch
from PIL import Image

from polyscale.cli import main
from polyscale.data.left_out import PartialImageWarning
from polyscale.labels import LabelSpace


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A checkpoint of the smallest network, untrained."""
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
    Image.fromarray(rng.integers(0, 256, (17, 23, 3), dtype=np.uint8)).save(folder / "a.png")
    Image.fromarray(rng.integers(0, 256, (40, 30), dtype=np.uint8)).save(folder / "night" / "b.jpg")
    return folder


def test_a_folder_is_predicted(checkpoint, images, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["predict", checkpoint, str(images), "--out", str(out), "--scales", "0.5,1", "--flip"]) == 0
    assert str(out) in capsys.readouterr().out
    with Image.open(out / "labels" / "night" / "b.png") as mask:
        assert mask.size == (30, 40)
        assert set(np.unique(mask)) <= {1, 7}
    shown = {path.relative_to(out / "attention").as_posix() for path in (out / "attention").rglob("*.png")}
    assert shown == {"a_0.5x.png", "a_1x.png", "night/b_0.5x.png", "night/b_1x.png"}


def test_python_and_the_command_agree(checkpoint, images, tmp_path):
    import polyscale

    out = tmp_path / "out"
    assert main(["predict", checkpoint, str(images / "a.png"), "--out", str(out), "--device", "cpu"]) == 0
    predictor = polyscale.load(checkpoint, device="cpu")
    prediction = predictor.predict(images / "a.png")
    assert list(prediction.attention) == [2.0, 1.0, 0.5]
    mask = np.array(Image.open(out / "labels" / "a.png"))
    np.testing.assert_array_equal(predictor.label_space.encode(mask), prediction.labels)


def test_the_finest_scale_can_be_left_out_where_the_others_are_sure(checkpoint, images, tmp_path, capsys):
    out = tmp_path / "out"
    options = ["--out", str(out), "--only", "attention", "--device", "cpu"]
    assert main(["predict", checkpoint, str(images / "a.png"), *options, "--adaptive", "0.01"]) == 0
    assert not np.array(Image.open(out / "attention" / "a_2x.png")).any()
    assert "adaptive: 0.01" in (out / "predictions.yaml").read_text()
    assert main(["predict", checkpoint, str(images), *options, "--adaptive", "0.7", "--scales", "0.5,1"]) == 2
    assert "saves at scales above 1" in capsys.readouterr().err


def test_an_unreadable_image_is_skipped_named_and_counted(checkpoint, images, tmp_path, capsys):
    (images / "broken.png").write_bytes(b"")
    out = tmp_path / "out"
    assert main(["predict", checkpoint, str(images), "--out", str(out), "--only", "labels"]) == 1
    shown = capsys.readouterr().err
    assert "broken.png is empty" in shown
    assert "1 of 3 images could not be predicted" in shown
    assert "Traceback" not in shown
    assert sorted(path.name for path in (out / "labels").rglob("*.png")) == ["a.png", "b.png"]
    assert not (out / "overlay").exists()


def test_where_nothing_can_be_predicted_nothing_is_written(checkpoint, images, tmp_path, capsys):
    (images / "a.png").write_bytes(b"no image")
    assert main(["predict", checkpoint, str(images / "a.png"), "--out", str(tmp_path / "out")]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: ")
    assert "a.png is not an image" in shown
    assert not (tmp_path / "out").exists()


def test_a_mistake_in_a_network_s_name_is_told(images, capsys):
    assert main(["predict", "peple", str(images)]) == 2
    assert "did you mean 'people'?" in capsys.readouterr().err


def test_nothing_predicted_is_status_two(checkpoint, tmp_path, capsys):
    for number in (1, 2):
        (tmp_path / f"broken{number}.png").write_bytes(b"no image")
    arguments = ["predict", checkpoint, str(tmp_path / "broken1.png"), "--out", str(tmp_path / "out")]
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    assert "broken1.png" in shown.err
    assert shown.err.count("\n") == 1
    arguments[2] = str(tmp_path)
    assert main(arguments) == 2
    assert "error: none of 2 images could be predicted" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{checkpoint}", "{images}/none.png"], "no such file or folder"),
        (["{images}/none.safetensors", "{images}"], "no checkpoint at"),
        (["{checkpoint}", "https://example.org/a.jpg"], "download it and name the file"),
        (["{checkpoint}", "{images}", "--scales", "0.5"], "must contain 1"),
        (["{checkpoint}", "{images}", "--only", "masks"], "unknown output 'masks'; choose from labels, overlay"),
        (["{checkpoint}", "{images}", "--device", "gpu"], "unknown device 'gpu'"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(checkpoint, images, tmp_path, capsys, arguments, message):
    filled = [argument.format(checkpoint=checkpoint, images=images) for argument in arguments]
    assert main(["predict", *filled, "--out", str(tmp_path / "out")]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    assert message in shown.err
    assert shown.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_unusual_images_are_predicted_at_their_own_size(checkpoint, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    grey = np.arange(600).reshape(20, 30)
    Image.new("RGB", (1, 1)).save(folder / "pixel.png")
    Image.new("RGB", (20_000, 1), (9, 99, 200)).save(folder / "row.png")
    Image.fromarray(np.stack([grey % 256] * 2, axis=2).astype(np.uint8), "LA").save(folder / "alpha.png")
    Image.fromarray((grey * 100).astype(np.uint16)).save(folder / "deep.png")
    frames = [Image.new("RGB", (12, 10), (shade, 0, 0)) for shade in (0, 200)]
    frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:])
    arguments = ["--scales", "0.5,1", "--only", "labels", "--device", "cpu"]
    with pytest.warns(PartialImageWarning, match=r"moving\.gif.*first"):
        assert main(["predict", checkpoint, str(folder), "--out", str(tmp_path / "out"), *arguments]) == 0
    for path in folder.iterdir():
        with Image.open(path) as image, Image.open(tmp_path / "out/labels" / f"{path.stem}.png") as labels:
            assert labels.size == image.size


def test_a_pth_file_leads_to_the_import(images, tmp_path, capsys):
    (tmp_path / "a.pth").write_bytes(b"PK" * 50)
    assert main(["predict", str(tmp_path / "a.pth"), str(images), "--out", str(tmp_path / "out")]) == 2
    assert "`polyscale import-reference` makes checkpoints of the .pth files" in capsys.readouterr().err


def test_tiles(checkpoint, images, tmp_path, capsys):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (150, 130, 3), dtype=np.uint8)).save(images / "large.png")
    arguments = ["predict", checkpoint, str(images), "--out", str(tmp_path / "out"), "--scales", "1"]
    assert main([*arguments, "--tile", "96", "--overlap", "32"]) == 0
    with Image.open(tmp_path / "out" / "labels" / "large.png") as mask:
        assert mask.size == (130, 150)
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tile", "16"], "a tile of 16 pixels is smaller than the network's stride of 32"),
        (["--tile", "256", "--overlap", "256"], "an overlap of 256 pixels does not suit tiles of 256"),
        (["--overlap", "64"], "give their side as well, such as --tile 1024"),
        (["--bands", "4,3"], "--bands must be three numbers from 1"),
        (["--bands", "1,2,0"], "--bands must be three numbers from 1"),
        (["--bands", "1,2,3"], "is no TIFF file, and only of these bands can be chosen"),
    ],
)
def test_tiles_and_bands_that_cannot_be_are_one_line(checkpoint, images, tmp_path, capsys, arguments, message):
    given = ["predict", checkpoint, str(images / "a.png"), "--out", str(tmp_path / "out"), *arguments]
    assert main(given) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith("error: ")
    assert message in shown.err
    assert shown.err.count("\n") == 1
    assert not (tmp_path / "out").exists()
