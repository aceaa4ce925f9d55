import errno
import json

import numpy as np
import pytest
from PIL import Image

import polyscale
from polyscale.autolabel import AutolabelConfig, autolabel, read_candidates, read_confidence, read_manifest, rethreshold
from polyscale.autolabel.records import ClassCounts, Record
from polyscale.autolabel.summary import Totals
from polyscale.config import dump_yaml
from polyscale.data import ConfidenceMaps
from polyscale.errors import UserError
from polyscale.labels import IGNORE


def label(teacher, images, out, batch=2, workers=2, **settings):
    extra = {key: settings.pop(key) for key in ("coarse", "frame", "replace", "report") if key in settings}
    return autolabel(
        teacher, images, out, AutolabelConfig(**settings), device="cpu", batch=batch, workers=workers, **extra
    )


def test_labels_are_the_prediction_s_where_it_is_sure_enough(teacher, images, tmp_path, space):
    summary = label(teacher, images, tmp_path / "out", threshold=0.6, scales=(0.5, 1), flip=True)
    assert (summary.num_labelled, summary.num_done, dict(summary.failures)) == (9, 9, {})
    data = polyscale.open_data(tmp_path / "out")
    assert [item.name for item in data.items] == [f"{'day' if n < 6 else 'night'}/{n}" for n in range(9)]
    assert data.label_space == space
    predictor = polyscale.load(teacher, "cpu")
    kept = []
    for index, line in enumerate(read_manifest(tmp_path / "out")):
        sample = data.read(index)
        expected = predictor.predict(sample.image, (0.5, 1), flip=True)
        certain = np.abs(expected.confidence - 0.6) > 1e-5  # a batch may round differently in the last bit
        wanted = np.where(expected.confidence >= 0.6, expected.labels, IGNORE)
        np.testing.assert_array_equal(sample.labels[certain], wanted[certain])
        kept.append((sample.labels != IGNORE).mean())
        assert line["image"] == sample.name
        assert line["kept"] == pytest.approx(kept[-1], abs=1e-6)
        for train_id, name in enumerate(space.names):
            chosen = sample.labels == train_id
            if chosen.any():
                assert line["classes"][name]["share"] == pytest.approx(chosen.mean(), abs=1e-6)
                mean = expected.confidence[chosen].mean()
                assert line["classes"][name]["confidence"] == pytest.approx(mean, abs=1e-4)
    assert 0.05 < np.mean(kept) < 0.95  # else the threshold was not tried


def test_thresholding_again_is_exactly_a_run_with_that_threshold(teacher, images, tmp_path, content):
    common = {"confidence": True, "confidence_stride": 1, "min_region": 6}
    label(teacher, images, tmp_path / "a", threshold=0.5, **common)
    label(teacher, images, tmp_path / "b", threshold=0.8, class_thresholds={"pole": 0.6}, **common)
    first = content(tmp_path / "a")
    rethreshold(tmp_path / "a", 0.8, {"pole": 0.6})
    again, direct = content(tmp_path / "a"), content(tmp_path / "b")
    masks = [name for name in direct if name.startswith("masks/")]
    assert len(masks) == 9
    assert [again[name] for name in masks] == [direct[name] for name in masks]
    assert any(first[name] != again[name] for name in masks)
    for line, other in zip(read_manifest(tmp_path / "a"), read_manifest(tmp_path / "b"), strict=True):
        assert line["kept"] == other["kept"]
        assert line["threshold"] == other["threshold"]
    rethreshold(tmp_path / "a", 0.5)
    back = content(tmp_path / "a")
    assert [back[name] for name in masks] == [first[name] for name in masks]


def test_with_a_stride_no_pixel_below_the_threshold_is_kept(teacher, images, tmp_path):
    label(teacher, images, tmp_path / "out", confidence=True)
    exact = label(teacher, images, tmp_path / "exact", confidence=True, confidence_stride=1, threshold=0.8)
    assert exact.num_done == 9
    rethreshold(tmp_path / "out", 0.8)
    coarse, fine = polyscale.open_data(tmp_path / "out"), polyscale.open_data(tmp_path / "exact")
    kept = []
    for index in range(9):
        ours, theirs = coarse.read(index).labels, fine.read(index).labels
        assert (ours[ours != IGNORE] == theirs[ours != IGNORE]).all()
        kept.append(((ours != IGNORE).sum(), (theirs != IGNORE).sum()))
    assert 0 < sum(a for a, _ in kept) < sum(b for _, b in kept)


def test_large_images_get_a_wider_stride_by_default(teacher, tmp_path):
    (tmp_path / "images").mkdir()
    sizes = {"large": (1000, 1001), "small": (999, 1001)}
    for name, (height, width) in sizes.items():
        Image.new("RGB", (width, height), "gray").save(tmp_path / f"images/{name}.png")
    label(teacher, tmp_path / "images", tmp_path / "out", confidence=True, scales=(1.0,))
    stored = {name: Image.open(tmp_path / f"out/confidence/{name}.png").size for name in sizes}
    assert stored == {"large": (251, 250), "small": (501, 500)}
    for name, size in sizes.items():
        assert read_confidence(tmp_path / "out", name).shape == size
    assert rethreshold(tmp_path / "out", 0.9).num_done == 2


def test_only_stored_levels_can_be_thresholds(teacher, images, tmp_path):
    label(teacher, images, tmp_path / "plain")
    with pytest.raises(UserError, match="without confidence maps"):
        rethreshold(tmp_path / "plain", 0.9)
    label(teacher, images, tmp_path / "out", confidence=True, levels=(0.5, 0.75))
    with pytest.raises(UserError, match="none of the stored levels; choose from 0, 0.5, 0.75, 1"):
        rethreshold(tmp_path / "out", 0.9)
    with pytest.raises(UserError, match="unknown class 'tram'"):
        rethreshold(tmp_path / "out", 0.5, {"tram": 0.75})
    with pytest.raises(UserError, match="holds no auto-labels"):
        rethreshold(images, 0.9)


def test_coarse_labels_stand_and_are_certain(teacher, images, tmp_path, space):
    coarse = tmp_path / "coarse"
    (coarse / "masks" / "day").mkdir(parents=True)
    (coarse / "images").symlink_to(images)
    for number in range(6):
        with Image.open(images / "day" / f"{number}.png") as picture:
            mask = np.zeros(picture.size[::-1], np.uint8)
        mask[4:12, 4:20] = 17
        Image.fromarray(mask).save(coarse / "masks" / "day" / f"{number}.png")
    space.to_yaml(coarse / "label_space.yaml")
    summary = label(teacher, images, tmp_path / "out", coarse=coarse, threshold=0.95, confidence=True, min_region=20)
    data = polyscale.open_data(tmp_path / "out")
    for index in range(9):
        sample = data.read(index)
        stands = (sample.labels[4:12, 4:20] == 2).all()
        sure = (read_confidence(tmp_path / "out", sample.name)[4:12, 4:20] == 1).all()
        assert stands == sure == (index < 6)
        candidates = read_candidates(tmp_path / "out", sample.name)
        assert (candidates != IGNORE).all()
    assert summary.totals.classes["pole"]["coarse"] == 6 * 8 * 16
    assert "agreed %" in summary.tables()[0][1]
    rethreshold(tmp_path / "out", 0.99)
    assert (polyscale.open_data(tmp_path / "out").read(0).labels[4:12, 4:20] == 2).all()
    # A coarse label that changes makes its image be labelled again.
    mask = np.full((32, 48), 23, np.uint8)
    out = tmp_path / "again"
    label(teacher, images, out, coarse=coarse)
    Image.fromarray(mask).save(coarse / "masks" / "day" / "1.png")
    assert label(teacher, images, out, coarse=coarse).num_labelled == 1
    assert (polyscale.open_data(out).read(1).labels == 1).all()


def test_coarse_labels_thinner_than_a_square_of_confidence_stand(teacher, images, tmp_path, space):
    coarse = tmp_path / "coarse"
    (coarse / "masks").mkdir(parents=True)
    mask = np.zeros((32, 40), np.uint8)
    mask[4:28, 11] = 17
    Image.fromarray(mask).save(coarse / "masks" / "8.png")
    (coarse / "images").symlink_to(images / "night")
    space.to_yaml(coarse / "label_space.yaml")
    out = tmp_path / "out"
    summary = label(teacher, images / "night", out, coarse=coarse, threshold=0.95, confidence=True)
    assert (polyscale.open_data(out).read(2).labels[4:28, 11] == 2).all()
    assert list(summary.bytes_by_kind) == ["mask", "candidates", "confidence", "certain"]
    lines = [line["classes"].get("pole", {"labelled": 0}) for line in read_manifest(out)]
    assert sum(line["labelled"] - line.get("taught", line["labelled"]) for line in lines) == 24
    rethreshold(out, 0.99)
    assert (polyscale.open_data(out).read(2).labels[4:28, 11] == 2).all()
    assert (read_confidence(out, "8")[4:28, 11] == 1).all()
    maps, item = ConfidenceMaps(out), polyscale.open_data(out).items[2]
    assert (maps.levels[maps.read(item, (32, 40))] == read_confidence(out, "8")).all()


def test_the_mean_confidence_is_that_of_the_teacher_s_pixels():
    totals = Totals()
    for labelled, taught, confidence in ((100, 10, 0.6), (30, 30, 0.8)):
        counts = ClassCounts(share=1, confidence=confidence, labelled=labelled, predicted=labelled, taught=taught)
        totals.add(Record.model_construct(height=10, width=10, mask_bytes=1, classes={"road": counts}))
    road = totals.classes["road"]
    assert road["weighted"] / road["taught"] == pytest.approx((10 * 0.6 + 30 * 0.8) / 40)


def test_how_coarse_masks_are_read_decides_what_is_done(teacher, images, tmp_path, space):
    coarse = tmp_path / "coarse"
    (coarse / "masks").mkdir(parents=True)
    (coarse / "images").symlink_to(images / "night")
    Image.fromarray(np.full((32, 48, 3), space.classes[2].color, np.uint8)).save(coarse / "masks" / "6.png")
    space.to_yaml(coarse / "label_space.yaml")
    config = {"kind": "folder", "root": str(coarse), "color_coded": True}
    for name, values in (("a", config), ("b", {**config, "ignore_colors": [list(space.classes[2].color)]})):
        (tmp_path / f"{name}.yaml").write_text(dump_yaml(values))
    label(teacher, images / "night", tmp_path / "out", coarse=tmp_path / "a.yaml")
    assert (polyscale.open_data(tmp_path / "out").read(0).labels == 2).all()
    with pytest.raises(UserError, match="other settings"):
        label(teacher, images / "night", tmp_path / "out", coarse=tmp_path / "b.yaml")


def test_thresholds_chosen_by_share_keep_it(teacher, images, tmp_path, content):
    summary = label(teacher, images, tmp_path / "out", keep=0.5, keep_sample=9)
    for name, values in summary.totals.classes.items():
        if values["predicted"] > 500:
            assert values["labelled"] / values["predicted"] == pytest.approx(0.5, abs=0.06), name
    assert len(set(summary.thresholds.values())) > 1
    before = content(tmp_path / "out")
    assert not any(name.startswith(".journal") for name in before)
    assert label(teacher, images, tmp_path / "out", keep=0.5, keep_sample=9).num_labelled == 0
    assert content(tmp_path / "out") == before


def test_thresholds_are_never_those_of_images_that_are_gone(teacher, images, tmp_path, content):
    out = tmp_path / "out"
    label(teacher, images / "day", out, keep=0.5)
    label(teacher, images / "night", out, keep=0.5, replace=True)
    label(teacher, images / "night", tmp_path / "fresh", keep=0.5)
    assert content(out) == content(tmp_path / "fresh")


def test_thresholds_are_not_chosen_from_nothing(teacher, images, tmp_path):
    good = (images / "day" / "0.png").read_bytes()
    (images / "day" / "0.png").write_bytes(b"broken")
    with pytest.raises(UserError, match="none of the 1 images from which thresholds are chosen"):
        label(teacher, images, tmp_path / "out", keep=0.5, keep_sample=1)
    (images / "day" / "0.png").write_bytes(good)
    assert label(teacher, images, tmp_path / "out", keep=0.5, keep_sample=1).thresholds["road"] != 0.5


def test_frame_dropped_classes_and_size(teacher, images, tmp_path):
    frame = np.full((32, 48), 255, np.uint8)
    frame[:, :10] = 0
    Image.fromarray(frame).save(tmp_path / "frame.png")
    summary = label(teacher, images, tmp_path / "out", frame=tmp_path / "frame.png", threshold=0, drop=("sky",))
    assert sorted(summary.failures) == ["day/0", "day/4", "night/8"]  # of another size than the frame
    assert "the frame mask is 48 x 32" in summary.failures["day/0"]
    data = polyscale.open_data(tmp_path / "out")
    assert len(data) == 6
    labels = data.read(0).labels
    assert (labels[:, :10] == IGNORE).all()
    assert set(np.unique(labels)) <= {0, 2, IGNORE}
    assert (labels[:, 10:] != IGNORE).any()


def test_done_work_is_recognised_by_content(teacher, images, tmp_path, draw, content):
    out = tmp_path / "out"
    label(teacher, images, out)
    before = content(out)
    assert label(teacher, images, out).num_labelled == 0
    assert content(out) == before
    (out / "masks" / "day" / "1.png").write_bytes(b"")  # present, but not what was written
    (out / "masks" / "day" / "2.png").unlink()
    assert label(teacher, images, out).num_labelled == 2
    assert content(out) == before
    data = (images / "day" / "3.png").read_bytes()
    (images / "day" / "3.png").write_bytes(data)  # another time, the same content
    assert label(teacher, images, out).num_labelled == 0
    Image.fromarray(draw(99)).save(images / "day" / "3.png")
    Image.fromarray(draw(100)).save(images / "night" / "new.png")
    assert label(teacher, images, out).num_labelled == 2
    assert len(polyscale.open_data(out)) == 10


def test_labels_of_another_teacher_or_other_settings_are_refused_unless_asked(
    teacher, save_teacher, images, tmp_path, content
):
    out = tmp_path / "out"
    label(teacher, images, out)
    other = save_teacher(tmp_path / "other.safetensors", seed=1)
    before = content(out)
    with pytest.raises(UserError, match="of another teacher.*--replace"):
        label(other, images, out)
    with pytest.raises(UserError, match=r"threshold 0.5, not 0.9"):
        label(teacher, images, out, threshold=0.9)
    fewer = tmp_path / "images" / "list.txt"
    fewer.write_text("night/6.png\nday/1.png\n")
    with pytest.raises(UserError, match="7 images that are not among those given"):
        label(teacher, fewer, out)
    assert content(out) == before
    assert label(teacher, fewer, out, replace=True).num_done == 2
    assert sorted(name for name in content(out) if name.startswith("masks/")) == [
        "masks/day/1.png",
        "masks/night/6.png",
    ]
    assert label(other, images, out, replace=True).num_labelled == 9
    label(other, images, tmp_path / "fresh")
    assert content(out) == content(tmp_path / "fresh")
    before = content(images)
    with pytest.raises(UserError, match="did not write|there are no images"):
        label(teacher, images, images)
    assert content(images) == before


def test_a_corrupt_image_is_skipped_and_may_be_mended(teacher, images, tmp_path, content):
    good = (images / "day" / "1.png").read_bytes()
    (images / "day" / "1.png").write_bytes(good[: len(good) // 2])
    told = []
    summary = label(teacher, images, tmp_path / "out", batch=3, report=told.append)
    assert list(summary.failures) == ["day/1"]
    assert summary.num_done == 8
    assert len(told) == 1
    assert told[0].startswith("skipped: ")
    assert json.loads((tmp_path / "out" / "failures.jsonl").read_text())["image"] == "day/1"
    assert len(polyscale.open_data(tmp_path / "out")) == 8
    (images / "day" / "1.png").write_bytes(good)
    assert not label(teacher, images, tmp_path / "out", batch=3).failures
    label(teacher, images, tmp_path / "fresh", batch=3)
    ours, fresh = content(tmp_path / "out"), content(tmp_path / "fresh")
    assert ours.keys() == fresh.keys()
    assert [name for name in ours if ours[name] != fresh[name]] == []


def test_images_that_moved_and_a_lost_list_are_written_anew(teacher, images, tmp_path):
    out = tmp_path / "out"
    label(teacher, images, out)
    images.rename(tmp_path / "moved")
    assert label(teacher, tmp_path / "moved", out).num_labelled == 0
    assert polyscale.open_data(out).read(0).image.shape == (32, 40, 3)
    (out / "images.txt").unlink()
    assert label(teacher, tmp_path / "moved", out).num_labelled == 0
    assert len(polyscale.open_data(out)) == 9


def test_a_label_space_of_somebody_else_is_not_overwritten(teacher, images, tmp_path, space):
    out = tmp_path / "out"
    out.mkdir()
    space.model_copy(update={"name": "mine"}).to_yaml(out / "label_space.yaml")
    before = (out / "label_space.yaml").read_text()
    other = space.model_copy(update={"classes": space.classes[:2]})
    other.to_yaml(out / "label_space.yaml")
    with pytest.raises(UserError, match="did not write"):
        label(teacher, images, out)
    space.to_yaml(out / "label_space.yaml")
    assert (out / "label_space.yaml").read_text() != before
    assert label(teacher, images, out).num_done == 9


def test_rethresholding_skips_what_is_damaged_and_forgets_no_failure(teacher, images, tmp_path):
    out = tmp_path / "out"
    (images / "day" / "1.png").write_bytes(b"broken")
    label(teacher, images, out, confidence=True)
    (out / "confidence" / "day" / "3.png").write_bytes(b"junk")
    told = []
    summary = rethreshold(out, 0.8, report=told.append)
    assert (list(summary.failures), summary.num_labelled, summary.num_done) == (["day/3"], 7, 7)
    assert len(told) == 1
    assert "day/3.png" in told[0]
    failed = [json.loads(line) for line in (out / "failures.jsonl").read_text().splitlines()]
    assert [line["image"] for line in failed] == ["day/1", "day/3"]
    assert len(polyscale.open_data(out)) == 7
    assert not (out / "masks" / "day" / "3.png").exists()


def test_thresholds_that_are_not_named_stay(teacher, images, tmp_path):
    label(teacher, images, tmp_path / "out", threshold=0.9, class_thresholds={"sky": 0.7}, confidence=True)
    assert rethreshold(tmp_path / "out", None, {"pole": 0.95}).thresholds == {"road": 0.9, "sky": 0.7, "pole": 0.95}
    assert rethreshold(tmp_path / "out", min_region=4).thresholds == {"road": 0.9, "sky": 0.7, "pole": 0.95}
    assert set(rethreshold(tmp_path / "out", 0.5).thresholds.values()) == {0.5}


def test_a_run_that_has_not_ended_is_not_thresholded_again(teacher, images, tmp_path, monkeypatch):
    import polyscale.data.png as png_module

    out = tmp_path / "out"
    label(teacher, images / "night", out, confidence=True)
    (images / "night" / "new.png").write_bytes((images / "day" / "1.png").read_bytes())
    (images / "night" / "newer.png").write_bytes((images / "day" / "2.png").read_bytes())
    real, written = png_module.write_atomically, []

    def write(path):
        written.append(path)
        if len(written) == 4:
            raise KeyboardInterrupt
        return real(path)

    monkeypatch.setattr(png_module, "write_atomically", write)
    with pytest.raises(KeyboardInterrupt):
        label(teacher, images / "night", out, confidence=True, workers=1, batch=1)
    monkeypatch.undo()
    with pytest.raises(UserError, match="has not ended"):
        rethreshold(out, 0.9)
    assert label(teacher, images / "night", out, confidence=True).num_labelled == 1
    assert rethreshold(out, 0.9).num_done == 5


def test_a_full_disk_ends_the_run_and_a_later_one_continues(teacher, images, tmp_path, content, monkeypatch):
    from pathlib import Path

    written = []
    real = Path.write_bytes

    def write(path, data):
        if "masks" in path.parts:
            written.append(path)
            if len(written) > 4:
                raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return real(path, data)

    monkeypatch.setattr(Path, "write_bytes", write)
    with pytest.raises(UserError, match="No space left on device; free some space") as caught:
        label(teacher, images, tmp_path / "out")
    assert "\n" not in str(caught.value)
    monkeypatch.undo()
    assert label(teacher, images, tmp_path / "out").num_labelled == 5
    label(teacher, images, tmp_path / "fresh")
    assert content(tmp_path / "out") == content(tmp_path / "fresh")


def test_batches_of_any_size_give_the_same_labels(teacher, images, tmp_path):
    label(teacher, images, tmp_path / "one", batch=1)
    label(teacher, images, tmp_path / "four", batch=4)
    one, four = polyscale.open_data(tmp_path / "one"), polyscale.open_data(tmp_path / "four")
    different = sum(int((one.read(i).labels != four.read(i).labels).sum()) for i in range(9))
    assert different <= 9


def test_a_folder_that_cannot_be_written_is_told_before_the_teacher_is_loaded(images, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file; choose a folder"):
        label(tmp_path / "no.safetensors", images, tmp_path / "file" / "out")


def test_two_runs_do_not_work_on_one_folder(teacher, images, tmp_path, content):
    from polyscale.autolabel.folder import locked

    label(teacher, images, tmp_path / "out", confidence=True)
    before = content(tmp_path / "out")
    with locked(tmp_path / "out"):
        with pytest.raises(UserError, match="another run is labelling"):
            label(teacher, images, tmp_path / "out", confidence=True)
        with pytest.raises(UserError, match="another run is labelling"):
            rethreshold(tmp_path / "out", 0.9)
    assert content(tmp_path / "out") == before
    assert not (tmp_path / "out" / ".journal").exists()


def test_large_images_are_labelled_in_tiles(teacher, tmp_path, draw):
    (tmp_path / "images").mkdir()
    Image.fromarray(draw(0, 160, 224)).save(tmp_path / "images" / "a.png")
    for name, settings in (("whole", {}), ("tiles", {"tile": 160, "overlap": 96})):
        label(teacher, tmp_path / "images", tmp_path / name, scales=(1,), threshold=0, **settings)
    whole, parts = (polyscale.open_data(tmp_path / name).read(0).labels for name in ("whole", "tiles"))
    assert (whole == parts).mean() > 0.95
    with pytest.raises(UserError, match="other settings|settings"):
        label(teacher, tmp_path / "images", tmp_path / "whole", scales=(1,), threshold=0, tile=160, overlap=96)
    with pytest.raises(UserError, match="an overlap of 160 pixels does not suit tiles of 160"):
        label(teacher, tmp_path / "images", tmp_path / "new", tile=160, overlap=160)
