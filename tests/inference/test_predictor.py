import threading

import numpy as np
import pytest
import torch
from PIL import Image

from polyscale.errors import UserError
from polyscale.inference.predictor import Predictor, load
from polyscale.looker import choose_device


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (33, 47), (64, 32)])
def test_results_have_the_images_size(any_predictor, photo, size):
    prediction = any_predictor.predict(photo(*size))
    assert prediction.labels.shape == prediction.confidence.shape == size
    assert prediction.labels.dtype == np.uint8
    assert prediction.probabilities.shape == (3, *size)
    assert prediction.probabilities.dtype == prediction.confidence.dtype == np.float32
    assert list(prediction.attention) == sorted(any_predictor.model.eval_scales, reverse=True)
    assert all(weight.shape == size and weight.dtype == np.float32 for weight in prediction.attention.values())
    np.testing.assert_allclose(prediction.probabilities.sum(0), 1, atol=1e-5)
    np.testing.assert_allclose(sum(prediction.attention.values()), 1, atol=1e-5)
    np.testing.assert_array_equal(prediction.labels, prediction.probabilities.argmax(0))
    np.testing.assert_array_equal(prediction.confidence, prediction.probabilities.max(0))


def test_the_result_is_that_of_the_network(any_predictor, photo):
    image = photo()
    prediction = any_predictor.predict(image)
    with torch.no_grad():
        fused = any_predictor.model(torch.from_numpy(image).permute(2, 0, 1)[None] / 255)
    expected = fused.logits.softmax(1)[0].numpy()
    np.testing.assert_allclose(prediction.probabilities, expected, atol=1e-6)
    assert len(np.unique(prediction.labels)) > 1  # or the comparison would say little
    np.testing.assert_array_equal(prediction.image, image)


def test_fast_fusion_shows_the_attention_of_exact_fusion(build, space, photo):
    exact, fast = (Predictor(build(method), space, "cpu").predict(photo(33, 47)) for method in ("hierarchical", "fast"))
    for scale, weight in exact.attention.items():
        np.testing.assert_allclose(fast.attention[scale], weight, atol=1e-6)
    assert 0 < np.abs(fast.probabilities - exact.probabilities).max() < 0.5


def test_one_image_in_every_form_gives_one_result(predictor, photo, tmp_path):
    image = photo()
    Image.fromarray(image).save(tmp_path / "image.png")
    forms = {
        "path": tmp_path / "image.png",
        "text": str(tmp_path / "image.png"),
        "Pillow": Image.fromarray(image),
        "RGBA": Image.fromarray(image).convert("RGBA"),
        "mirrored twice": image[:, ::-1][:, ::-1],
        "uint8 tensor": torch.from_numpy(image).permute(2, 0, 1),
        "float tensor": torch.from_numpy(image).permute(2, 0, 1) / 255,
    }
    expected = predictor.predict(image).probabilities
    for name, form in forms.items():
        prediction = predictor.predict(form)
        np.testing.assert_allclose(prediction.probabilities, expected, atol=1e-6, err_msg=name)
        np.testing.assert_array_equal(prediction.image, image, err_msg=name)


def test_grey_and_sixteen_bits(predictor, photo):
    grey = photo()[:, :, 0]
    expected = predictor.predict(np.repeat(grey[:, :, None], 3, axis=2)).probabilities
    for form in (grey, Image.fromarray(grey), Image.fromarray(grey.astype(np.uint16) * 257)):
        np.testing.assert_array_equal(predictor.predict(form).probabilities, expected)


def test_exif_rotation_is_applied(predictor, photo, tmp_path):
    image = Image.fromarray(photo(20, 40))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned a quarter
    image.save(tmp_path / "turned.png", exif=exif)
    prediction = predictor.predict(tmp_path / "turned.png")
    assert prediction.labels.shape == (40, 20)
    expected = predictor.predict(image.rotate(-90, expand=True))
    np.testing.assert_array_equal(prediction.labels, expected.labels)


def test_the_prediction_keeps_its_own_copy_of_the_image(predictor, photo):
    frame = photo()
    prediction = predictor.predict(frame)
    before = prediction.image.copy()
    frame[:] = 0
    np.testing.assert_array_equal(prediction.image, before)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4, 3), np.float32), r"must be uint8 .* got float32 \(4, 4, 3\)"),
        (np.zeros((4, 4, 4), np.uint8), r"got uint8 \(4, 4, 4\)"),
        (np.zeros((0, 4, 3), np.uint8), r"got uint8 \(0, 4, 3\)"),
        (torch.zeros(4, 4, 3), r"must be \(3, H, W\).* got float32 \(4, 4, 3\)"),
        (torch.zeros(3, 4, 4, dtype=torch.int64), "got int64"),
        (torch.full((3, 4, 4), 128.0), r"must lie in \[0, 1\], got 128 to 128"),
        (torch.full((3, 4, 4), float("nan")), "must lie in"),
        ("no/such/image.png", "no/such/image.png"),
    ],
)
def test_other_images_are_refused_in_one_line(predictor, image, message):
    with pytest.raises(UserError, match=message) as raised:
        predictor.predict(image)
    assert "\n" not in str(raised.value)


def test_several_images_are_each_as_alone(predictor, photo):
    images = [photo(33, 47), photo(16, 20, seed=1), photo(33, 47, seed=2)]
    together = predictor.predict_batch(images, scales=(0.5, 1), flip=True)
    for image, prediction in zip(images, together, strict=True):
        alone = predictor.predict(image, scales=(0.5, 1), flip=True)
        np.testing.assert_array_equal(prediction.probabilities, alone.probabilities)


def test_flip_averages_both_passes_and_is_blind_to_mirroring(any_predictor, photo):
    image = photo(32, 48)
    mirrored = np.ascontiguousarray(image[:, ::-1])
    there, back = any_predictor.predict(image), any_predictor.predict(mirrored)
    both = any_predictor.predict(image, flip=True)
    assert np.abs(there.probabilities - back.probabilities[..., ::-1]).max() > 1e-3
    np.testing.assert_allclose(both.probabilities, (there.probabilities + back.probabilities[..., ::-1]) / 2, atol=1e-6)
    of_mirrored = any_predictor.predict(mirrored, flip=True)
    np.testing.assert_allclose(both.probabilities, of_mirrored.probabilities[..., ::-1], atol=1e-6)
    for scale, weight in both.attention.items():
        expected = (there.attention[scale] + back.attention[scale][:, ::-1]) / 2
        np.testing.assert_allclose(weight, expected, atol=1e-6)


def test_scales_can_be_chosen(predictor, photo):
    assert list(predictor.predict(photo(), scales=[0.25, 1, 1.5]).attention) == [1.5, 1.0, 0.25]
    assert np.all(predictor.predict(photo(), scales=[1]).attention[1.0] == 1)


@pytest.mark.parametrize(
    ("method", "scales", "message"),
    [
        ("hierarchical", (0.5, 2), "must contain 1"),
        ("hierarchical", (-1, 1), "must be positive"),
        ("hierarchical", (), "must be positive"),
        ("average", (1, float("nan")), "must be positive"),
        ("single", (0.5, 1), "method 'single' is bound to scales 1,"),
        ("explicit", (0.5, 1), "method 'explicit' is bound to scales 0.5,1,2,"),
    ],
)
def test_scales_that_do_not_suit_are_refused(build, space, photo, method, scales, message):
    with pytest.raises(UserError, match=message):
        Predictor(build(method), space, "cpu").predict(photo(), scales=scales)


def test_a_network_in_training_mode_is_put_into_evaluation_mode(build, space):
    model = build().train()
    Predictor(model, space, "cpu")
    assert not model.training


def test_threads_share_a_predictor(predictor, photo):
    images = [photo(seed=seed) for seed in range(6)]
    expected = [predictor.predict(image).probabilities for image in images]
    got = {}

    def work(index):
        for _ in range(3):
            got[index] = predictor.predict(images[index]).probabilities

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(images))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index, probabilities in enumerate(expected):
        np.testing.assert_array_equal(got[index], probabilities)


def test_bfloat16_gives_nearly_the_same_in_float32(build, space, photo):
    image = photo()
    exact = Predictor(build(), space, "cpu").predict(image)
    fast = Predictor(build(), space, "cpu", precision="bfloat16").predict(image)
    assert fast.probabilities.dtype == np.float32
    difference = np.abs(exact.probabilities - fast.probabilities).max()
    assert 0 < difference < 0.05


def test_too_little_memory_is_said_in_one_line(predictor, photo, monkeypatch):
    def fail(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 40 GiB.\nmore\nlines")

    monkeypatch.setattr(predictor.model, "combine", fail)
    with pytest.raises(UserError, match="47 x 33 pixels at scales 0.5, 1, 2 does not fit into memory") as raised:
        predictor.predict(photo())
    assert "\n" not in str(raised.value)


def test_a_network_that_diverged_gives_no_labels(build, space, photo):
    network = build()
    network.segmenter.logits.weight.data.fill_(torch.nan)
    with pytest.raises(UserError, match="not finite"):
        Predictor(network, space).predict(photo(20, 24))


def test_an_error_of_the_network_is_not_disguised(predictor, photo, monkeypatch):
    def fail(*_):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(predictor.model, "combine", fail)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        predictor.predict(photo())


@pytest.mark.parametrize(
    ("device", "message"), [("graphics", "unknown device 'graphics'"), ("cuda:99", "'cuda:99' is not on this machine")]
)
def test_a_device_that_is_not_there(build, space, device, message):
    with pytest.raises(UserError, match=message):
        Predictor(build(), space, device)


def test_an_unknown_precision_is_refused(build, space):
    with pytest.raises(UserError, match="choose float32 or bfloat16"):
        Predictor(build(), space, "cpu", precision="half")


def test_loading_needs_a_checkpoint(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    for path in (tmp_path / "none.safetensors", tmp_path / "model.safetensors", tmp_path):
        with pytest.raises(UserError, match=str(path)):
            load(path)


def test_the_default_device_is_the_first_gpu_or_the_cpu():
    assert choose_device(None).type == ("cuda" if torch.cuda.is_available() else "cpu")
