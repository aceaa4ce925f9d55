import pytest

from polyscale.errors import UserError
from polyscale.evaluation import evaluate
from polyscale.tiles import Tiles


@pytest.mark.parametrize("flip", [False, True])
def test_scores_are_those_of_whole_images(fakes, flip):
    data, model, kept = fakes.Toys([(128, 256), (32, 40)]), fakes.network("hierarchical"), []
    whole = evaluate(model, data, (0.5, 1), flip=flip)
    parts = evaluate(model, data, (0.5, 1), flip=flip, tiles=Tiles(128, 64), keep=lambda *pair: kept.append(pair))
    expected, found = whole.rows["fused"], parts.rows["fused"]
    assert found.pixels == expected.pixels
    assert found.mean_iou == pytest.approx(expected.mean_iou, abs=1e-3)
    assert found.mean_boundary_iou == pytest.approx(expected.mean_boundary_iou, abs=1e-2)
    assert found.expected_calibration_error == pytest.approx(expected.expected_calibration_error, abs=1e-3)
    assert [(name, tuple(classes.shape)) for name, classes in kept] == [
        ("street/0", (128, 256)),
        ("street/1", (32, 40)),
    ]
    assert (parts.metadata["tile"], parts.metadata["overlap"]) == (128, 64)
    assert "tile" not in whole.metadata


def test_comparing_scales_needs_whole_images(fakes):
    with pytest.raises(UserError, match="need the views of whole images; leave these out, or --tile"):
        evaluate(fakes.network("hierarchical"), fakes.Toys([(64, 64)]), (0.5, 1), compare=True, tiles=Tiles(128, 64))
