import numpy as np
import pytest
import torch
from PIL import Image

from polyscale.errors import UserError
from polyscale.labels import LabelSpace
from polyscale.video import Scene, background_of_image, background_of_video
from polyscale.video.backdrop import open_backdrop
from polyscale.video.background import classes_to_keep

BRIGHT = (slice(11, 21), slice(16, 19))
"""Pixels of the square in all frames of the drawn video."""


@pytest.fixture
def photo(tmp_path):
    """A dark picture of odd sides with a bright square."""
    pixels = np.full((49, 65, 3), 30, np.uint8)
    pixels[8:24, 8:24] = 220
    path = tmp_path / "photo.png"
    Image.fromarray(pixels).save(path)
    return path


def opened(path):
    with Image.open(path) as image:
        return np.array(image).astype(int)


@pytest.mark.parametrize("refine", [True, False])
def test_a_colour_behind_an_image(predictor, photo, tmp_path, refine):
    background_of_image(predictor, photo, tmp_path / "out.png", Scene(["Bright"], "#00ff00", refine))
    result = opened(tmp_path / "out.png")
    assert result.shape == (49, 65, 3)
    np.testing.assert_allclose(result[16, 16], 220, atol=4)
    np.testing.assert_allclose(result[40, 50], (0, 255, 0), atol=4)


def test_transparency_and_pictures(predictor, photo, tmp_path):
    background_of_image(predictor, photo, tmp_path / "clear.png", Scene(["bright"], "transparent"))
    result = opened(tmp_path / "clear.png")
    assert result.shape == (49, 65, 4)
    assert result[16, 16, 3] > 250
    assert result[40, 50, 3] < 5
    Image.new("RGB", (10, 300), (0, 0, 255)).save(tmp_path / "blue.png")
    background_of_image(predictor, photo, tmp_path / "out.webp", Scene(["bright"], str(tmp_path / "blue.png")))
    np.testing.assert_allclose(opened(tmp_path / "out.webp")[40, 50], (0, 0, 255), atol=8)
    # The other class is kept.
    background_of_image(predictor, photo, tmp_path / "dark.png", Scene(["dark"], "white"))
    np.testing.assert_allclose(opened(tmp_path / "dark.png")[16, 16], 255, atol=4)


def test_a_blurred_video_keeps_its_sound_and_the_square(predictor, make_video, read_video, tmp_path):
    import av

    source = make_video(sound="aac")
    summary = background_of_video(predictor, source, tmp_path / "out.mp4", Scene(["bright"]), smooth=0.5, every=2)
    assert summary.num_frames == 12
    assert summary.smoothed_flicker is not None
    _, pictures = read_video(tmp_path / "out.mp4")
    assert all(picture[BRIGHT].mean() > 180 for picture in pictures)
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.audio


def test_a_video_behind_goes_at_its_own_pace_and_repeats(predictor, make_video, read_video, tmp_path):
    def flash(number, height, width):
        return np.full((height, width, 3), (0, 160, 0) if number % 2 else (0, 0, 200), np.uint8)

    behind = make_video("behind.mp4", [0, 120], draw=flash)  # two frames of 0.12 s, and the last is as long
    background_of_video(predictor, make_video(), tmp_path / "out.mp4", Scene(["bright"], str(behind)))
    _, pictures = read_video(tmp_path / "out.mp4")
    colours = ["blue" if picture[40, 60, 2] > 100 else "green" for picture in pictures]
    assert colours[:3] == ["blue"] * 3
    assert colours[3] == "green"
    assert "blue" in colours[4:]


def test_a_picture_behind_covers_the_frame():
    behind = open_backdrop("#ffffff").behind(torch.zeros(1, 3, 33, 47), torch.zeros(1, 1, 33, 47), 0.0)
    assert behind.shape == (1, 3, 33, 47)
    assert behind.min() == 1


@pytest.mark.parametrize(
    ("keep", "backdrop", "out", "message"),
    [
        (["brigt"], "blur", "out.png", "knows no class 'brigt', did you mean 'bright'"),
        ([], "blur", "out.png", "name the classes to keep; the network's are dark, bright"),
        (["dark", "bright"], "blur", "out.png", "leaves no background"),
        (["dark"], "beach.jpg", "out.png", "no such background: 'beach.jpg'"),
        (["dark"], "transparent", "out.jpg", "know no transparency"),
        (["dark"], "white", "out.bmp", "the result ends in .png"),
        (["dark"], "white", "photo.png", "is what is read"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(predictor, photo, tmp_path, keep, backdrop, out, message):
    with pytest.raises(UserError, match=message) as caught:
        background_of_image(predictor, photo, tmp_path / out, Scene(keep, backdrop))
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["photo.png"]


def space_of(*names):
    classes = [{"name": name, "color": (9, 9, 9 * k)} for k, name in enumerate(names)]
    return LabelSpace.model_validate({"name": "some", "classes": classes})


@pytest.mark.parametrize(
    ("names", "keep", "kept"),
    [
        (("background", "skin", "hair", "bag"), ["person"], [1, 2, 3]),
        (("background", "skin", "hair", "bag"), ["People", "bag"], [1, 2, 3]),
        (("background", "skin", "hair", "bag"), ["hair"], [2]),
        (("background", "person", "skin"), ["person"], [1]),  # a class of that name is that class
    ],
)
def test_a_person_is_all_its_parts(names, keep, kept):
    assert classes_to_keep(keep, space_of(*names)) == kept


def test_a_network_that_knows_no_persons_says_so():
    with pytest.raises(UserError, match="knows no class 'person'"):
        classes_to_keep(["person"], space_of("background", "cell"))


def test_it_tells_how_much_is_kept(predictor, photo, tmp_path):
    kept = background_of_image(predictor, photo, tmp_path / "out.png", Scene(["bright"]))
    assert 0.04 < kept < 0.12  # 256 of 3185 pixels, seen at two scales
    Image.new("RGB", (40, 30)).save(tmp_path / "night.png")
    assert background_of_image(predictor, tmp_path / "night.png", tmp_path / "none.png", Scene(["bright"])) < 1e-4


def test_a_video_cannot_be_transparent(predictor, make_video, tmp_path):
    with pytest.raises(UserError, match="cannot be transparent"):
        background_of_video(predictor, make_video(), tmp_path / "out.mp4", Scene(["dark"], "transparent"))
