"""Evaluation of networks whose answers can be computed step by step."""

import math

import pytest
import torch
from torch.nn import functional
from torchmetrics.functional.classification import multiclass_calibration_error, multiclass_confusion_matrix

from polyscale.errors import UserError
from polyscale.evaluation import evaluate
from polyscale.labels import IGNORE, LabelSpace
from polyscale.multiscale import View

SIZES = [(23, 31), (20, 40), (31, 17)]


def step_by_step(model, data, flip):
    """Each row's scores of the classes, image by image, with the arithmetic of scales 0.5, 1, 2 written out."""
    rows = {}
    for index in range(len(data)):
        sample = data.read(index)
        image = torch.tensor(sample.image).permute(2, 0, 1)[None] / 255
        size = image.shape[-2:]

        def at_one(x, size=size):
            return functional.interpolate(x, size=size, mode="bilinear", align_corners=False)

        def look(image):
            views = {}
            for scale in (0.5, 1, 2):
                scaled = tuple(int(side * scale) for side in image.shape[-2:])
                small = functional.interpolate(image, size=scaled, mode="bilinear", align_corners=False)
                grid = model.segmenter(small)
                views[scale] = [
                    functional.interpolate(x, size=scaled, mode="bilinear", align_corners=False) for x in grid[:2]
                ]
            return views

        def chain(views, constant=None):
            (half, a_half), (one, a_one), (two, _) = (views[scale] for scale in (0.5, 1, 2))
            if constant is not None:
                a_half, a_one = torch.full_like(a_half, constant), torch.full_like(a_one, constant)
            fused = a_one * one + (1 - a_one) * at_one(two)
            return at_one(a_half * half) + (1 - at_one(a_half)) * fused

        def mean(views):
            return sum(at_one(views[scale][0]).softmax(1) for scale in (0.5, 1, 2)) / 3

        with torch.no_grad():
            views, mirrored = look(image), look(image.flip(-1))
            own = chain(views).softmax(1)
            result = {
                "fused": (own + chain(mirrored).softmax(1).flip(-1)) / 2 if flip else own,
                "fused without flip": own,
                **{f"scale {scale:g}": at_one(views[scale][0]) for scale in (0.5, 1, 2)},
                "average of probabilities": mean(views),
                "average of probabilities with flip": mean(views) + mean(mirrored).flip(-1),
                "average of logits": sum(at_one(views[scale][0]) for scale in (0.5, 1, 2)),
                "constant attention 0.5": chain(views, 0.5),
            }
        for name, scores in result.items():
            rows.setdefault(name, []).append((scores[0], torch.tensor(sample.labels).long()))
    return rows


@pytest.mark.parametrize("flip", [False, True])
def test_every_row_by_hand(fakes, flip):
    model, data = fakes.network("hierarchical"), fakes.Toys(SIZES)
    result = evaluate(model, data, [1, 0.5, 2], flip=flip, compare=True)
    expected = step_by_step(model, data, flip)
    if not flip:
        del expected["fused without flip"], expected["average of probabilities with flip"]
    assert list(result.rows) == list(expected)
    for name, images in expected.items():
        matrix = sum(multiclass_confusion_matrix(s.argmax(0), y, 4, ignore_index=IGNORE) for s, y in images)
        assert torch.tensor(result.rows[name].confusion).equal(matrix), name
    probabilities = torch.cat([s.flatten(1) for s, _ in expected["fused"]], dim=1)
    labels = torch.cat([y.flatten() for _, y in expected["fused"]])
    error = multiclass_calibration_error(probabilities.T, labels, 4, 15, ignore_index=IGNORE)
    assert result.scores.expected_calibration_error == pytest.approx(error.item(), abs=1e-5)
    # The rows would be worth nothing if they were all alike.
    assert len({scores.confusion for scores in result.rows.values()}) == len(expected)
    assert result.rows["scale 1"].expected_calibration_error is None
    assert result.rows["scale 1"].mean_boundary_iou is not None


@pytest.mark.parametrize(("flip", "passes"), [(False, 1), (True, 2)])
def test_one_look_at_each_scale_serves_all_rows(fakes, flip, passes):
    model = fakes.network("hierarchical")
    result = evaluate(model, fakes.Toys(SIZES), (0.5, 1, 2), flip=flip, compare=True)
    assert model.segmenter.looks == len(SIZES) * 3 * passes
    assert len(result.rows) == 7 + 2 * flip


def test_fast_fusion_changes_the_networks_own_row_alone(fakes):
    model, data = fakes.network("hierarchical"), fakes.Toys(SIZES)
    exact = evaluate(model, data, compare=True)
    model.fast = True
    fast = evaluate(model, data, compare=True)
    assert fast.rows["fused"].mean_iou == pytest.approx(exact.rows["fused"].mean_iou, abs=0.1)
    assert fast.rows["fused"].confusion != exact.rows["fused"].confusion
    for name in exact.rows.keys() - {"fused"}:
        assert fast.rows[name].confusion == exact.rows[name].confusion
    assert fast.attention == exact.attention


def test_a_network_that_is_always_right(fakes):
    data = fakes.Toys([(24, 30)], noise=0)
    model = fakes.network("single")
    model.segmenter.forward = lambda images: View(20 * functional.pad(images, (0, 0, 0, 0, 0, 1)))
    scores = evaluate(model, data).scores
    assert scores.iou == (1, 1, 1, None)
    assert scores.absent == ("train",)
    assert scores.mean_iou == scores.pixel_accuracy == scores.mean_boundary_iou == 1
    assert scores.num_pixels == 24 * 28


def test_metadata_and_progress(fakes):
    steps = []
    result = evaluate(
        fakes.network("hierarchical"),
        fakes.Toys(SIZES),
        (2, 1),
        flip=True,
        details={"checkpoint": "best.safetensors", "split": "val"},
        progress=lambda done, total: steps.append((done, total)),
    )
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert list(result.rows) == ["fused"]
    assert result.metadata["seconds"] > 0
    assert {key: value for key, value in result.metadata.items() if key != "seconds"} == {
        "checkpoint": "best.safetensors",
        "split": "val",
        "label_space": "toys",
        "method": "hierarchical",
        "scales": [1.0, 2.0],
        "compared_scales": None,
        "flip": True,
        "num_images": 3,
        "image_size": "20x17 to 31x40",
        "boundary_fraction": 0.02,
        "autocast": None,
        "device": "cpu",
        "processes": 1,
    }


@pytest.mark.parametrize("method", ["hierarchical", "average", "explicit", "single"])
def test_each_method_compares(fakes, method):
    result = evaluate(fakes.network(method), fakes.Toys(SIZES), (0.5, 1, 2), compare=True)
    assert ("constant attention 0.5" in result.rows) == (method == "hierarchical")
    assert (result.attention is None) == (method in ("average", "single"))
    fused = {"average": "average of probabilities", "single": "scale 1"}.get(method)
    if fused is not None:
        assert result.scores.confusion == result.rows[fused].confusion
    assert result.metadata["scales"] == ([1.0] if method == "single" else [0.5, 1.0, 2.0])
    assert result.metadata["compared_scales"] == [0.5, 1.0, 2.0]


def test_by_default_the_networks_own_scales(fakes):
    result = evaluate(fakes.network("hierarchical"), fakes.Toys(SIZES))
    assert result.metadata["scales"] == [0.5, 1.0, 2.0]
    assert result.rows == evaluate(fakes.network("hierarchical"), fakes.Toys(SIZES), (0.5, 1, 2)).rows


def test_one_scale_has_nothing_to_average(fakes):
    result = evaluate(fakes.network("hierarchical"), fakes.Toys(SIZES), (1,), compare=True)
    assert list(result.rows) == ["fused", "scale 1"]
    assert result.attention.overall == (1.0,)


def test_without_probabilities_the_classes_are_the_same(fakes):
    model, data = fakes.network("hierarchical"), fakes.Toys(SIZES)
    lean = evaluate(model, data, (0.5, 1), boundary=False, calibration=False).scores
    full = evaluate(model, data, (0.5, 1)).scores
    assert lean.confusion == full.confusion
    assert lean.boundary_iou is lean.expected_calibration_error is None


def test_the_modules_modes_are_given_back(fakes):
    model = fakes.network("hierarchical")
    model.train()
    model.segmenter.attention.eval()
    seen = []
    model.segmenter.register_forward_pre_hook(lambda module, inputs: seen.append(module.training))
    evaluate(model, fakes.Toys(SIZES[:1]))
    assert seen == [False] * 3
    assert model.training
    assert model.segmenter.logits.training
    assert not model.segmenter.attention.training


def test_bfloat16_scores_nearly_the_same(fakes):
    model, data = fakes.network("hierarchical"), fakes.Toys(SIZES)
    half = evaluate(model, data, (0.5, 1), autocast=torch.bfloat16)
    full = evaluate(model, data, (0.5, 1))
    assert half.metadata["autocast"] == "bfloat16"
    assert half.scores.confusion != full.scores.confusion
    assert half.scores.pixel_accuracy == pytest.approx(full.scores.pixel_accuracy, abs=0.03)


@pytest.mark.parametrize(
    ("method", "scales", "message"),
    [
        ("hierarchical", (0.5, 2), r"scales must contain 1"),
        ("hierarchical", (1, -1), r"scales must be positive"),
        ("single", (0.5, 1), r"method 'single' is bound to scales 1, got 0.5,1"),
        ("explicit", (0.5, 1), r"method 'explicit' is bound to scales 0.5,1,2, got 0.5,1"),
    ],
)
def test_scales_that_do_not_suit(fakes, method, scales, message):
    model = fakes.network(method)
    with pytest.raises(UserError, match=message):
        evaluate(model, fakes.Toys(SIZES), list(scales))
    assert model.segmenter.looks == 0


def test_an_image_without_mask(fakes):
    data = fakes.Toys(SIZES)
    data.items[1] = data.items[1]._replace(mask=None)
    # Its labels are drawn: no file, and yet fine.
    evaluate(fakes.network("single"), data)
    with pytest.raises(UserError, match=r"image 'street/0' has no mask \(3 of 3 have none\); evaluation needs a mask"):
        evaluate(fakes.network("single"), fakes.Toys(SIZES, masks=False))


def test_no_images(fakes):
    with pytest.raises(UserError, match="no images to evaluate"):
        evaluate(fakes.network("single"), fakes.Toys([]))


def test_another_label_space(fakes):
    data = fakes.Toys(SIZES)
    with pytest.raises(UserError, match=r"network has 3 classes, but the data's label space 'toys' has 4"):
        evaluate(fakes.network("single", num_classes=3), data)

    def space(*names):
        return LabelSpace.model_validate({"name": "mine", "classes": [{"name": n, "color": (0, 0, 0)} for n in names]})

    with pytest.raises(UserError, match=r"network has 3 classes \(label space 'mine'\), the data 4 \('toys'\)"):
        evaluate(fakes.network("single"), data, label_space=space("road", "sky", "pole"))
    with pytest.raises(
        UserError, match=r"'mine' of the network and 'toys' of the data differ: class 1 is 'tree', in the data 'sky';"
    ):
        evaluate(fakes.network("single"), data, label_space=space("road", "tree", "pole", "train"))
    evaluate(fakes.network("single"), data, label_space=space("Road", "sky", "pole", "Train"))


def test_a_diverged_network_is_not_scored(fakes):
    model = fakes.network("hierarchical")
    with torch.no_grad():
        model.segmenter.logits.weight[0] = math.nan
    with pytest.raises(UserError, match=r"street/0: the network's output is not finite"):
        evaluate(model, fakes.Toys(SIZES))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gives_the_same_scores(fakes):
    model, data = fakes.network("hierarchical"), fakes.Toys(SIZES)
    on_cpu = evaluate(model, data, (0.5, 1, 2), flip=True, compare=True)
    on_gpu = evaluate(model, data, (0.5, 1, 2), flip=True, compare=True, device="cuda")
    for name, scores in on_cpu.rows.items():
        moved = (torch.tensor(scores.confusion) - torch.tensor(on_gpu.rows[name].confusion)).abs().sum()
        assert moved <= 0.01 * scores.num_pixels, name
    assert on_gpu.attention.overall == pytest.approx(on_cpu.attention.overall, abs=1e-4)


def test_paths_and_predictors_stand_for_networks_and_data(tmp_path):
    """What a user holds: a checkpoint's path, a run's folder, a predictor, the path of a data set."""
    from polyscale.data.streets import STREETS, write_streets
    from polyscale.inference.predictor import load
    from polyscale.models import ModelConfig, build_model, save_checkpoint

    write_streets(tmp_path / "data", {"train": 1, "val": 2}, size=(64, 96))
    torch.manual_seed(0)
    tiny = {"backbone": {"name": "tiny"}, "decoder": {"kind": "light", "light_channels": 8}}
    save_checkpoint(tmp_path / "run/best.safetensors", build_model(ModelConfig.model_validate(tiny), STREETS), STREETS)
    one = evaluate(tmp_path / "run" / "best.safetensors", tmp_path / "data", (1,))
    assert one.metadata["num_images"] == 2
    for network in (tmp_path / "run", str(tmp_path / "run"), load(tmp_path / "run", "cpu")):
        assert evaluate(network, tmp_path / "data", (1,)).rows == one.rows
