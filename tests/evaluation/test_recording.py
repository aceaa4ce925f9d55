"""What an evaluation leaves for a report, against the scores of the same pass."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from polyscale.errors import UserError
from polyscale.evaluation import FUSED, ORACLE, Recording, evaluate
from polyscale.evaluation import gallery as gallery_module
from polyscale.evaluation.gallery import Gallery, encode_logits
from polyscale.labels import IGNORE
from polyscale.metrics import FIXED_POINT, thickness_bins
from polyscale.multiscale import View, fuse_on_grid

SIZES = [(23, 31), (20, 40), (31, 17), (24, 26), (26, 24)]
SCALES = (0.5, 1, 2)


@pytest.fixture
def recorded(fakes, tmp_path):
    result = evaluate(
        fakes.network("hierarchical"),
        fakes.Toys(SIZES),
        SCALES,
        compare=True,
        recording=Recording(tmp_path, gallery=4, logits=True),
    )
    with np.load(tmp_path / "counts.npz", allow_pickle=False) as counts:
        return result, dict(counts), json.loads((tmp_path / "recording.json").read_text()), tmp_path


def confusions(counts, about):
    """Dense confusion of each image and row."""
    shape = (len(about["rows"]), len(about["classes"]), len(about["classes"]))
    found = np.zeros((len(about["images"]), int(np.prod(shape))), int)
    starts = counts["confusion_starts"]
    for k in range(len(found)):
        part = slice(starts[k], starts[k + 1])
        found[k][counts["confusion_entries"][part]] = counts["confusion_counts"][part]
    return found.reshape(len(found), *shape)


def test_counts_add_up_to_the_scores(recorded):
    result, counts, about, _ = recorded
    matrices = confusions(counts, about)
    assert about["rows"] == [*result.rows, ORACLE]
    for k, scores in enumerate(result.rows.values()):
        assert matrices[:, k].sum(0).tolist() == [list(row) for row in scores.confusion]
    pixels = result.scores.pixels
    for name in ("thickness_pixels", "border_pixels"):
        assert counts[name].sum(1).tolist() == list(pixels)
    for name in ("thickness", "border"):
        right = np.diagonal(matrices.sum(0), axis1=1, axis2=2)
        np.testing.assert_array_equal(counts[name].sum(2), right)
    np.testing.assert_array_equal(counts["image_thickness"].sum(0), counts["thickness"].sum(1))
    np.testing.assert_array_equal(counts["image_pixels"].sum(0), counts["thickness_pixels"].sum(0))
    assert counts["levels"].sum() == counts["reliability"][0, 0].sum() == sum(pixels)
    # Of the rows that a report compares with the network's own, some pixels of each image.
    some = counts["reliability"][:, 0].sum(1)
    shown = [k for k, row in enumerate(about["rows"]) if row.startswith("scale") or row == "average of probabilities"]
    assert all(sum(pixels) / 8 < some[k] < sum(pixels) / 2 for k in shown)
    assert [k for k in range(1, len(some)) if some[k]] == shown
    own = [(row[0], row[1] and row[1] * row[0]) for row in result.scores.reliability]
    assert counts["reliability"][0, 0].tolist() == [n for n, _ in own]
    assert counts["reliability"][0, 2] / FIXED_POINT == pytest.approx([total or 0 for _, total in own])
    assert counts["weight_by_thickness"].sum() / FIXED_POINT == pytest.approx(sum(pixels), rel=1e-5)
    assert all(array.dtype.kind == "i" for array in counts.values())


def test_rescued_and_spoiled_are_the_difference_to_averaging(recorded):
    _, counts, about, _ = recorded
    matrices = confusions(counts, about).sum(0)
    rows = about["rows"]
    own, average = (np.diagonal(matrices[rows.index(name)]) for name in (FUSED, "average of probabilities"))
    np.testing.assert_array_equal(counts["rescued"].sum(0) - counts["spoiled"].sum(0), own - average)
    assert counts["rescued"].sum() > 0
    assert counts["spoiled"].sum() > 0
    bound = np.diagonal(matrices[rows.index(ORACLE)])
    assert all((bound >= np.diagonal(matrices[rows.index(f"scale {s:g}")])).all() for s in SCALES)
    assert bound.sum() > own.sum()


def test_the_gallery_holds_what_was_scored(recorded):
    _, counts, about, folder = recorded
    matrices = confusions(counts, about)
    shown = [k for k, entry in enumerate(about["images"]) if entry["gallery"]]
    assert 1 < len(shown) <= 4
    assert sorted(path.name for path in (folder / "gallery").iterdir()) == [f"{k:06d}" for k in shown]
    for k in shown:
        place = folder / about["images"][k]["gallery"]["folder"]
        maps = {path.stem: np.array(Image.open(path)) for path in place.glob("*.png")}
        valid = maps["truth"] != IGNORE
        for row, name in ((FUSED, "fused"), ("average of probabilities", "average"), ("scale 2", "scale-2")):
            pairs = maps["truth"][valid].astype(int) * 4 + maps[name][valid]
            matrix = np.bincount(pairs, minlength=16).reshape(4, 4)
            np.testing.assert_array_equal(matrix, matrices[k, about["rows"].index(row)])
        weights = sum(maps[f"weight-{scale:g}"].astype(int) for scale in SCALES)
        assert abs(weights - 255).max() <= 2
    assert all((folder / entry["thumbnail"]).is_file() for entry in about["images"])


def test_stored_logits_fuse_to_the_same_classes():
    # Noise has far more near ties than a network's logits.
    generator = torch.Generator().manual_seed(0)
    views, stored = {}, {}
    for scale, size in ((2.0, (96, 128)), (1.0, (48, 64)), (0.5, (24, 32))):
        logits = 4 * torch.randn(1, 9, *size, generator=generator)
        attention = torch.rand(1, 1, *size, generator=generator)
        views[scale] = View(logits, attention)
        codes, deepest = encode_logits(logits[0])
        back = torch.where(codes == 0, -deepest, deepest / 5 * (codes.float() / 255).clamp_min(0.001).log())
        stored[scale] = View(back[None], (attention * 127).round() / 127)
    exact, again = (fuse_on_grid(v, (192, 256)).logits.argmax(1) for v in (views, stored))
    assert (exact == again).float().mean() > 0.995


def test_another_evaluation_replaces_an_earlier_one(recorded, fakes):
    *_, folder = recorded
    evaluate(fakes.network("single"), fakes.Toys(SIZES[:2]), recording=Recording(folder, gallery=None))
    about = json.loads((folder / "recording.json").read_text())
    assert about["rows"] == [FUSED]
    assert about["complete"]
    assert len(list((folder / "thumbnails").iterdir())) == len(list((folder / "gallery").iterdir())) == 2
    assert not list(folder.glob("gallery/*/logits*"))


@pytest.mark.parametrize(("gallery", "few", "kept"), [(2, 10_000, True), (2, 10, False), (13, 10_000, False)])
def test_few_logits_of_a_small_gallery_are_kept_unasked(fakes, tmp_path, monkeypatch, gallery, few, kept):
    monkeypatch.setattr(gallery_module, "FEW_LOGITS", few)
    recording = Recording(tmp_path, gallery=gallery)
    evaluate(fakes.network("hierarchical"), fakes.Toys(SIZES[:2]), SCALES, compare=True, recording=recording)
    assert bool(list(tmp_path.glob("gallery/*/logits*"))) is kept


def test_logits_at_full_size_are_thinned_and_every_map_of_attention_is_stored(fakes, tmp_path):
    labels = torch.zeros(24, 32, dtype=torch.uint8)
    views = {1.0: View(torch.rand(1, 4, 24, 32), torch.rand(1, 4, 24, 32)), 0.5: View(torch.rand(1, 4, 3, 4))}
    image = np.zeros((24, 32, 3), np.uint8)
    about = gallery_module.write_image(tmp_path / "one", image, labels, {}, None, views)
    assert [about["logits"][scale]["grid"] for scale in ("1", "0.5")] == [[6, 8], [3, 4]]
    assert about["logits"]["1"]["attention"] == [4, 6, 8]
    low, spread = about["logits"]["1"]["best"]
    best = np.asarray(Image.open(tmp_path / "one/best-1.png")) / 255 * spread + low
    assert best == pytest.approx(
        gallery_module.thinned(views, (24, 32))[1.0].logits[0].amax(0).numpy(), abs=spread / 250
    )
    assert np.asarray(Image.open(tmp_path / "one/attention-1.png")).shape == (4 * 6, 8)
    assert not (tmp_path / "one/attention-0.5.png").exists()


def test_a_folder_of_somebody_else_stays(tmp_path, fakes):
    (tmp_path / "gallery").mkdir()
    (tmp_path / "gallery" / "mine.jpg").write_text("x")
    with pytest.raises(UserError, match="written by no evaluation"):
        evaluate(fakes.network("single"), fakes.Toys(SIZES[:1]), recording=Recording(tmp_path))
    assert (tmp_path / "gallery" / "mine.jpg").exists()


def test_a_gallery_of_half_the_worst_and_a_quarter_each_of_gains_and_losses():
    rng = np.random.default_rng(0)
    scores, gains = rng.random(200).round(3), rng.standard_normal(200)
    gallery, kept = Gallery(12), set()
    for k, (score, gain) in enumerate(zip(scores, gains, strict=True)):
        keep, dropped = gallery.offer(k, score, gain)
        kept = (kept | ({k} if keep else set())) - set(dropped)
    order = np.argsort(gains)
    expected = {*np.argsort(scores, kind="stable")[:6].tolist(), *order[:3].tolist(), *order[-3:].tolist()}
    assert kept == gallery.chosen() == expected
    assert Gallery(3).offer(0, None, None) == (False, [])


def test_thin_objects_are_counted_apart(recorded):
    _, counts, about, folder = recorded
    total = np.zeros_like(counts["image_pixels"])
    for k, entry in enumerate(about["images"]):
        if entry["gallery"]:
            truth = torch.tensor(np.array(Image.open(folder / entry["gallery"]["folder"] / "truth.png")))
            bins = thickness_bins(truth)[truth != IGNORE]
            total[k] = torch.bincount(bins.long(), minlength=4)
            np.testing.assert_array_equal(total[k], counts["image_pixels"][k])
