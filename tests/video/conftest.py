"""Tiny drawn videos, and a network that tells bright from dark."""

from fractions import Fraction

import av
import numpy as np
import pytest
from torch import nn

from polyscale.inference.predictor import Predictor
from polyscale.labels import LabelSpace
from polyscale.multiscale import HierarchicalMultiScale, View


class Brightness(nn.Module):
    """Class 0 where a pixel is dark, 1 where it is bright."""

    def forward(self, images):
        x = 20 * (images.mean(1, keepdim=True) - 0.5)
        return View((x * x.new_tensor([-1.0, 1.0]).reshape(1, 2, 1, 1)), (x * 0 + 0.25))


@pytest.fixture
def space():
    classes = [{"name": "dark", "color": (0, 0, 255)}, {"name": "bright", "color": (255, 255, 0)}]
    return LabelSpace.model_validate({"name": "light", "classes": classes})


@pytest.fixture
def predictor(space):
    return Predictor(HierarchicalMultiScale(Brightness(), eval_scales=(0.5, 1.0)), space, "cpu")


def picture(number, height, width):
    """Dark, with a bright square that moves to the right."""
    pixels = np.full((height, width, 3), 30, np.uint8)
    pixels[8:24, 4 + number : 20 + number] = 220
    return pixels


def write(path, times, size=(48, 64), sound=None, rotation=None, time_base=Fraction(1, 1000), draw=picture):
    """A video whose frames are shown at ``times`` (in units of ``time_base``); ``sound`` names its codec."""
    height, width = size
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(25), options={"crf": "12", "preset": "ultrafast"})
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        stream.codec_context.time_base = stream.time_base = time_base
        if rotation is not None:
            if not hasattr(stream, "set_display_rotation"):
                pytest.skip("this PyAV cannot write a rotation")
            stream.set_display_rotation(rotation)
        if sound is not None:
            voice = container.add_stream(sound, rate=8000, layout="mono")
            tone = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.int16), format="s16", layout="mono")
            tone.sample_rate = 8000
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(draw(number, height, width), format="rgb24")
            frame.pts, frame.time_base = time, time_base
            container.mux(stream.encode(frame))
            if sound is not None and number % 3 == 0:
                tone.pts = 1024 * (number // 3)
                container.mux(voice.encode(tone))
        container.mux(stream.encode(None))
        if sound is not None:
            container.mux(voice.encode(None))
    return path


EVEN = [40 * number for number in range(12)]
UNEVEN = [0, 40, 80, 200, 240, 500, 540, 580, 900, 933, 966, 1000]


@pytest.fixture
def make_video(tmp_path):
    """Write a video of twelve frames below the test's folder."""

    def make(name="in.mp4", times=EVEN, **options):
        return write(tmp_path / name, times, **options)

    return make


@pytest.fixture
def uneven():
    """Times of twelve frames, in milliseconds."""
    return UNEVEN


def frames_of(path):
    """Times in seconds, and pictures, of a video."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
        return [float(frame.pts * frame.time_base) for frame in frames], [f.to_ndarray(format="rgb24") for f in frames]


@pytest.fixture
def read_video():
    return frames_of
