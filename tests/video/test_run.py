import threading
import time

import av
import numpy as np
import pytest
from PIL import Image

from polyscale.baselines import SingleScale
from polyscale.errors import UserError
from polyscale.inference.predictor import Predictor
from polyscale.video import label_video


def sound_of(path):
    with av.open(str(path)) as container:
        return [(packet.pts * packet.time_base, bytes(packet)) for packet in container.demux(audio=0) if packet.size]


def test_frames_keep_their_times_and_sound_is_copied(predictor, make_video, read_video, tmp_path, uneven):
    source = make_video("in.mkv", uneven, sound="aac")
    seen = []
    summary = label_video(predictor, source, tmp_path / "out.mkv", progress=lambda *done: seen.append(done))
    assert summary.num_frames == 12
    assert seen[-1][0] == 12
    times, pictures = read_video(tmp_path / "out.mkv")
    assert times == pytest.approx(read_video(source)[0], abs=1e-3)
    assert len(pictures) == 12
    assert len(sound_of(source)) > 2
    assert sound_of(tmp_path / "out.mkv") == sound_of(source)
    label_video(predictor, source, tmp_path / "silent.mkv", sound=False)
    assert not av.open(str(tmp_path / "silent.mkv")).streams.audio


def test_what_is_shown(predictor, make_video, read_video, tmp_path):
    source = make_video()
    shapes = {}
    for shown in ("overlay", "side", "masks", "attention"):
        label_video(predictor, source, tmp_path / f"{shown}.mp4", shown)
        shapes[shown] = read_video(tmp_path / f"{shown}.mp4")[1][3]
    assert shapes["overlay"].shape == shapes["masks"].shape == (48, 64, 3)
    assert shapes["side"].shape == (48, 128, 3)
    assert shapes["attention"].shape[1] > 2 * 64
    # The moving square: bright is yellow, dark blue, in lossy colours.
    mask = shapes["masks"].astype(int)
    assert mask[16, 14, 0] > 180
    assert mask[16, 14, 2] < 80
    assert mask[40, 60, 2] > 180
    np.testing.assert_allclose(shapes["side"][:, :64].astype(int).mean(), 55, atol=12)


@pytest.mark.parametrize("shown", ["overlay", "side", "masks"])
def test_a_legend_below_the_picture(predictor, make_video, read_video, tmp_path, shown):
    label_video(predictor, make_video(), tmp_path / "out.mp4", shown, legend=True)
    label_video(predictor, make_video("b.mp4"), tmp_path / "plain.mp4", shown)
    (_, with_legend), (_, without) = read_video(tmp_path / "out.mp4"), read_video(tmp_path / "plain.mp4")
    height, width = without[0].shape[:2]
    assert with_legend[0].shape[1] == width
    assert with_legend[0].shape[0] > height
    assert with_legend[0][-2:].mean() > 240  # white ground


def test_odd_sizes_and_pictures(predictor, read_video, tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in (1, 2, 10):
        Image.fromarray(np.full((33, 47, 3), 20 * number, np.uint8)).save(folder / f"{number}.png")
    (folder / "notes.md").write_text("no picture")
    label_video(predictor, folder, tmp_path / "out.mp4", "side", rate=10, size=(20, 31), scales=(1,))
    times, pictures = read_video(tmp_path / "out.mp4")
    assert times == pytest.approx([0, 0.1, 0.2])
    assert pictures[0].shape == (34, 94, 3)
    assert [round(picture[:, :40].mean() / 20) for picture in pictures] == [1, 2, 10]
    (tmp_path / "list.txt").write_text("frames/10.png\n\nframes/1.png\n")
    label_video(predictor, tmp_path / "list.txt", tmp_path / "list.webm", "side")
    assert [round(picture[:, :40].mean() / 20) for picture in read_video(tmp_path / "list.webm")[1]] == [10, 1]


def test_a_phone_held_upright(predictor, make_video, read_video, tmp_path):
    turned = make_video("turned.mp4", rotation=90)
    label_video(predictor, turned, tmp_path / "out.mp4", "side")
    _, pictures = read_video(tmp_path / "out.mp4")
    assert pictures[0].shape == (64, 96, 3)
    # What lay left of the middle above lies, turned counter-clockwise, below the middle at the left.
    assert pictures[0][50, 16].mean() > 150
    assert pictures[0][10, 16].mean() < 80


def test_only_every_third_frame_is_looked_at(predictor, make_video, read_video, tmp_path, monkeypatch):
    looked = []
    look = predictor.looker.look
    monkeypatch.setattr(predictor.looker, "look", lambda *given: looked.append(given) or look(*given))
    label_video(predictor, make_video(), tmp_path / "out.mp4", "masks", every=3)
    assert len(looked) == 4
    _, pictures = read_video(tmp_path / "out.mp4")
    assert len(pictures) == 12
    assert (
        np.abs(pictures[1].astype(int) - pictures[0]).mean() < 3 < np.abs(pictures[3].astype(int) - pictures[0]).mean()
    )


def test_smoothing_takes_flicker_out_of_still_pixels(predictor, make_video, tmp_path, space):
    class Nervous(SingleScale):
        number = 0

        def combine(self, images, scales):
            fused = super().combine(images, scales)
            self.number += 1
            sign = 1 if self.number % 2 else -0.5
            return fused._replace(logits=fused.logits.clamp(-2, 2) * sign)

    nervous = Predictor(Nervous(predictor.model.segmenter), space, "cpu")
    summary = label_video(nervous, make_video(), tmp_path / "out.mp4", smooth=0.8)
    assert summary.flicker == pytest.approx(1, abs=0.01)
    assert summary.smoothed_flicker < 0.1
    assert label_video(predictor, make_video(), tmp_path / "calm.mp4").flicker < 0.02


def test_the_network_decoding_and_encoding_overlap(predictor, make_video, tmp_path, monkeypatch):
    threads = set()
    look = predictor.looker.look
    monkeypatch.setattr(predictor.looker, "look", lambda *g: threads.add(threading.current_thread().name) or look(*g))
    monkeypatch.setattr("polyscale.video.run.draw", _noting("polyscale.video.draw", "draw", threads))
    label_video(predictor, make_video(), tmp_path / "out.mp4")
    assert len(threads) == 2


def _noting(module, name, threads):
    from importlib import import_module

    real = getattr(import_module(module), name)

    def noted(*given):
        threads.add(threading.current_thread().name)
        return real(*given)

    return noted


class TestNothingHalfWritten:
    def stopping(self, predictor, monkeypatch, error):
        look, done = predictor.looker.look, []

        def stops(*given):
            done.append(1)
            if len(done) == 6:
                raise error
            return look(*given)

        monkeypatch.setattr(predictor.looker, "look", stops)

    @pytest.mark.parametrize("error", [KeyboardInterrupt(), UserError("no memory")])
    def test_an_interrupted_run_leaves_no_file(self, predictor, make_video, tmp_path, monkeypatch, error):
        source = make_video(sound="aac")
        before = threading.active_count()
        self.stopping(predictor, monkeypatch, error)
        with pytest.raises(type(error)):
            label_video(predictor, source, tmp_path / "out.mp4")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4"]
        time.sleep(0.05)
        assert threading.active_count() == before

    def test_the_old_file_stays(self, predictor, make_video, tmp_path, monkeypatch):
        (tmp_path / "out.mp4").write_bytes(b"old")
        self.stopping(predictor, monkeypatch, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            label_video(predictor, make_video(), tmp_path / "out.mp4", replace=True)
        assert (tmp_path / "out.mp4").read_bytes() == b"old"

    def test_with_a_camera_the_interruption_is_the_end(self, predictor, make_video, read_video, tmp_path, monkeypatch):
        from polyscale.video import run
        from polyscale.video.source import Video

        def camera(given, rate):
            opened = Video(make_video())
            opened.endless = True
            return opened

        monkeypatch.setattr(run, "open_source", camera)
        self.stopping(predictor, monkeypatch, KeyboardInterrupt())
        label_video(predictor, "0", tmp_path / "out.mp4")
        assert len(read_video(tmp_path / "out.mp4")[1]) == 5

    def test_a_failing_encoder_ends_the_run(self, predictor, make_video, tmp_path, monkeypatch):
        from polyscale.video.sink import Sink

        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Sink, "write", full)
        with pytest.raises(UserError, match="No space left"):
            label_video(predictor, make_video(), tmp_path / "out.mp4")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4"]


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        ("in.mp4", {"out": "out.gif"}, "the result ends in .mp4"),
        ("in.mp4", {"out": "in.mp4"}, "is what is read"),
        ("in.mp4", {"out": "there.mp4"}, "is there already"),
        ("in.mp4", {"out": "empty.mp4/out.mp4"}, "is a file"),
        ("in.mp4", {"shown": "mask"}, "unknown picture 'mask'"),
        ("in.mp4", {"smooth": 1.0}, "smoothing must lie in"),
        ("in.mp4", {"scales": (0.5,)}, "must contain 1"),
        ("none.mp4", {}, "no such video"),
        ("empty.mp4", {}, "is empty"),
        ("broken.mp4", {}, "is not a video that can be read"),
        ("sound.wav", {}, "holds no video"),
        ("frameless.mp4", {}, "holds no video"),
        ("frameless.mkv", {}, "is not a video that can be read"),
        ("blanked.mp4", {}, "holds no frame"),
        ("one.png", {}, "is one picture"),
        ("nothing", {}, "no picture in"),
        ("list.txt", {}, "do not exist"),
        ("long.txt", {}, r"long\.txt: the file name .* is too long"),
        ("97", {}, "there is no camera 97"),
    ],
)
def test_bad_input_is_one_line(predictor, make_video, tmp_path, given, options, message):
    make_video()
    (tmp_path / "there.mp4").write_bytes(b"something")
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "broken.mp4").write_bytes(b"no video" * 99)
    (tmp_path / "nothing").mkdir()
    (tmp_path / "list.txt").write_text("a.png\n")
    (tmp_path / "long.txt").write_text("a" * 5000)
    Image.new("RGB", (8, 8)).save(tmp_path / "one.png")
    with av.open(str(tmp_path / "sound.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        tone = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        tone.sample_rate = 8000
        container.mux([*stream.encode(tone), *stream.encode(None)])
    for suffix in ("mp4", "mkv"):
        with av.open(str(tmp_path / f"frameless.{suffix}"), "w") as container:
            stream = container.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            container.start_encoding()
    whole = (tmp_path / "in.mp4").read_bytes()
    start, end = whole.index(b"mdat") + 4, whole.index(b"moov") - 4
    (tmp_path / "blanked.mp4").write_bytes(whole[:start] + bytes(end - start) + whole[end:])
    before = {path.name for path in tmp_path.iterdir()}
    out = tmp_path / options.pop("out", "out.mp4")
    with pytest.raises(UserError, match=message) as caught:
        label_video(predictor, given if given.isdecimal() else tmp_path / given, out, **options)
    assert "\n" not in str(caught.value)
    assert {path.name for path in tmp_path.iterdir()} == before


def test_an_address_is_not_called_missing(predictor, tmp_path):
    with pytest.raises(UserError, match="is an address, and nothing is fetched"):
        label_video(predictor, "https://example.org/a.mp4", tmp_path / "out.mp4")
    assert not list(tmp_path.iterdir())


def test_sound_that_the_format_cannot_hold(predictor, make_video, tmp_path):
    source = make_video("in.mkv", sound="pcm_s16le")
    with pytest.raises(UserError, match="choose .mkv or --no-sound"):
        label_video(predictor, source, tmp_path / "out.webm")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mkv"]


def test_pictures_of_two_sizes_are_named(predictor, tmp_path):
    for name, size in (("a.png", (8, 6)), ("b.png", (8, 7))):
        (tmp_path / "frames").mkdir(exist_ok=True)
        Image.new("RGB", size).save(tmp_path / "frames" / name)
    with pytest.raises(UserError, match=r"b.png is 8 x 7 pixels, but a.png is 8 x 6"):
        label_video(predictor, tmp_path / "frames", tmp_path / "out.mp4")


def test_a_video_that_ends_early_is_told(predictor, make_video, tmp_path):
    source = make_video("whole.mkv", [40 * number for number in range(200)])
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    summary = label_video(predictor, cut, tmp_path / "out.mp4")
    assert 0 < summary.num_frames < 200


def test_a_network_that_weighs_no_scales_has_no_attention_to_show(predictor, make_video, tmp_path, space):
    plain = Predictor(SingleScale(predictor.model.segmenter), space, "cpu")
    with pytest.raises(UserError, match="weighs its scales alike"):
        label_video(plain, make_video(), tmp_path / "out.mp4", "attention")


def test_a_full_disk_is_not_told_as_a_fault_of_the_sound(predictor, make_video, tmp_path):
    resource = pytest.importorskip("resource")
    source = make_video("in.mp4", sound="aac")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        with pytest.raises(UserError, match="too large; free some space"):
            label_video(predictor, source, tmp_path / "out.mp4")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4"]
