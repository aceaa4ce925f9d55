import pytest

from polyscale.cli.options import parse_bands, parse_scales, parse_size
from polyscale.errors import UserError


@pytest.mark.parametrize(
    ("text", "scales"),
    [
        (None, None),
        ("1", (1.0,)),
        ("0.5,1,2", (0.5, 1.0, 2.0)),
        (" 2, 1.0 ,.25,", (2.0, 1.0, 0.25)),
    ],
)
def test_scales(text, scales):
    assert parse_scales(text) == scales


@pytest.mark.parametrize("text", ["", ",", "a", "1,b", "1;2", "0,1", "-1,1", "nan,1", "1,inf", "0.5,2", "1,16.5"])
def test_wrong_scales_say_what_is_right(text):
    with pytest.raises(UserError, match=r"--scales must .* for example 0\.5,1,2$"):
        parse_scales(text)


def test_size():
    assert parse_size("256x512") == (256, 512)
    assert parse_size("64X96") == (64, 96)


@pytest.mark.parametrize(
    "text", ["", "256", "256x", "x512", "0x5", "-3x5", "2.5x3", "1x2x3", "²x3", f"{10**30}x9", "9" * 5000 + "x1"]
)
def test_wrong_sizes_say_what_is_right(text):
    with pytest.raises(UserError, match="HEIGHTxWIDTH"):
        parse_size(text)


@pytest.mark.parametrize("text", ["", "1,2", "0,1,2", "a,b,c", "9" * 5000 + ",1,1"])
def test_wrong_bands_say_what_is_right(text):
    with pytest.raises(UserError, match="--bands must be three numbers"):
        parse_bands(text)
