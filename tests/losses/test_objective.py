import sys

import pytest
import torch
from torch.nn import functional

from polyscale.config import load_config, validate
from polyscale.errors import UserError
from polyscale.losses import (
    LOSSES,
    LossConfig,
    LossTerm,
    Objective,
    bce,
    cross_entropy,
    dice,
    focal,
    inverse_log_weights,
    rmi_loss,
)
from polyscale.multiscale import Fused, View, fuse


@pytest.fixture
def labels():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (2, 21, 26), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < 0.2] = 255
    return labels


@pytest.fixture
def fused():
    generator = torch.Generator().manual_seed(1)

    def view(height, width):
        logits, aux = (torch.randn(2, 3, height, width, generator=generator).requires_grad_() for _ in range(2))
        return View(logits, torch.rand(2, 1, height, width, generator=generator), aux)

    return fuse({1.0: view(21, 26), 0.5: view(10, 13)})


def upsampled(view, labels):
    return functional.interpolate(view.logits, labels.shape[-2:], mode="bilinear", align_corners=False)


def test_defaults_are_the_papers(fused, labels):
    losses = Objective(LossConfig())(fused, labels)
    expected = {
        "main": rmi_loss(fused.logits, labels),
        "aux": bce(fused.aux, labels),
        "scale_0.5": bce(upsampled(fused.views[0.5], labels), labels),
        "scale_1": bce(fused.views[1.0].logits, labels),
    }
    assert list(losses) == ["total", *expected]
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value.detach(), rtol=1e-6, atol=0)
        assert not losses[name].requires_grad
    total = expected["main"] + 0.4 * expected["aux"] + 0.05 * (expected["scale_0.5"] + expected["scale_1"])
    torch.testing.assert_close(losses["total"], total, rtol=1e-6, atol=0)
    leaves = [x for view in fused.views.values() for x in (view.logits, view.aux)]
    for got, wanted in zip(
        torch.autograd.grad(losses["total"], leaves, retain_graph=True), torch.autograd.grad(total, leaves), strict=True
    ):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-8)


def test_the_rest_follows_a_main_cross_entropy(fused, labels):
    config = LossConfig(main="cross_entropy", label_smoothing=0.1, ohem_threshold=0.5)
    losses = Objective(config)(fused, labels)
    options = {"label_smoothing": 0.1, "ohem_threshold": 0.5}
    torch.testing.assert_close(losses["aux"], cross_entropy(fused.aux, labels, **options).detach())
    torch.testing.assert_close(losses["scale_1"], cross_entropy(fused.views[1.0].logits, labels, **options).detach())


def test_one_view_has_no_scale_terms(fused, labels):
    losses = Objective(LossConfig())(Fused(fused.logits, None, {1.0: fused.views[1.0]}), labels)
    assert list(losses) == ["total", "main"]
    torch.testing.assert_close(losses["total"].detach(), losses["main"])


def test_weight_zero_leaves_a_term_out(fused, labels):
    losses = Objective(LossConfig(aux_weight=0, per_scale_weight=0))(fused, labels)
    assert list(losses) == ["total", "main"]


def test_a_list_of_losses(fused, labels):
    config = LossConfig(main=[{"loss": "rmi", "weight": 2}, {"loss": "dice", "weight": 0.5}], per_scale="dice")
    losses = Objective(config)(fused, labels)
    rmi, overlap = rmi_loss(fused.logits, labels).detach(), dice(fused.logits, labels).detach()
    assert list(losses) == ["total", "main", "aux", "scale_0.5", "scale_1", "main.rmi", "main.dice"]
    torch.testing.assert_close(losses["main"], 2 * rmi + 0.5 * overlap)
    torch.testing.assert_close(losses["main.rmi"], rmi)
    torch.testing.assert_close(losses["main.dice"], overlap)
    torch.testing.assert_close(losses["aux"], (2 * bce(fused.aux, labels) + 0.5 * dice(fused.aux, labels)).detach())
    torch.testing.assert_close(losses["scale_1"], dice(fused.views[1.0].logits, labels).detach())
    total = losses["main"] + 0.4 * losses["aux"] + 0.05 * (losses["scale_0.5"] + losses["scale_1"])
    torch.testing.assert_close(losses["total"].detach(), total)


def test_options_reach_rmi(fused, labels):
    config = LossConfig(rmi_lambda=0.25, rmi_radius=2, rmi_pool=2)
    expected = rmi_loss(fused.logits, labels, weight_lambda=0.25, radius=2, pool=2).detach()
    torch.testing.assert_close(Objective(config)(fused, labels)["main"], expected)


def test_class_weights_from_a_list_and_from_counts(fused, labels):
    listed = Objective(LossConfig(main="cross_entropy", class_weights=(1, 2, 0.5)))
    expected = cross_entropy(fused.logits, labels, class_weights=torch.tensor([1, 2, 0.5])).detach()
    torch.testing.assert_close(listed(fused, labels)["main"], expected)
    assert not listed.state_dict()
    counts = torch.tensor([10, 20, 70])
    counted = Objective(LossConfig(main="cross_entropy", class_weights="inverse-log"), inverse_log_weights(counts))
    expected = cross_entropy(fused.logits, labels, class_weights=inverse_log_weights(counts)).detach()
    torch.testing.assert_close(counted(fused, labels)["main"], expected)
    with pytest.raises(UserError, match="inverse-log needs pixel counts"):
        Objective(LossConfig(main="cross_entropy", class_weights="inverse-log"))
    with pytest.raises(UserError, match="2 class weights for 3 classes"):
        Objective(LossConfig(main="cross_entropy", class_weights=(1, 2)))(fused, labels)


@pytest.mark.parametrize("main", ["rmi", "cross_entropy"])
def test_half_precision_views_under_autocast(fused, labels, main):
    def half(x):
        return x.detach().bfloat16().requires_grad_()

    views = {scale: View(half(view.logits), None, None) for scale, view in fused.views.items()}
    rounded = Fused(half(fused.logits), half(fused.aux), views)
    single = Fused(
        rounded.logits.float(), rounded.aux.float(), {s: View(view.logits.float()) for s, view in views.items()}
    )
    objective = Objective(LossConfig(main=main))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = objective(rounded, labels)
    for name, value in objective(single, labels).items():
        torch.testing.assert_close(losses[name], value, rtol=0, atol=0)
    losses["total"].backward()
    assert rounded.logits.grad.isfinite().all()
    assert views[0.5].logits.grad.abs().sum() > 0


def test_double_stays_double(fused, labels):
    double = Fused(fused.logits.double(), None, {s: View(view.logits.double()) for s, view in fused.views.items()})
    for main in LOSSES:
        assert Objective(LossConfig(main=main))(double, labels)["total"].dtype == torch.float64


def test_bad_labels_are_refused(fused, labels):
    with pytest.raises(UserError, match="label ids outside 0 to 2: 9"):
        Objective(LossConfig())(fused, torch.full_like(labels, 9))
    with pytest.raises(UserError, match="do not match"):
        Objective(LossConfig())(fused, labels[:, 1:])


def test_options_that_nothing_would_read_are_refused():
    with pytest.raises(
        UserError, match=r"class_weights needs the loss cross_entropy or focal, .* are bce, rmi; set main"
    ):
        validate(LossConfig, {"class_weights": "inverse-log"})
    with pytest.raises(UserError, match="ohem_threshold needs the loss cross_entropy"):
        validate(LossConfig, {"main": "focal", "ohem_threshold": 0.7})
    with pytest.raises(UserError, match="rmi_radius needs the loss rmi"):
        validate(LossConfig, {"main": "dice", "rmi_radius": 5})
    with pytest.raises(UserError, match="focal_gamma needs the loss focal"):
        validate(LossConfig, {"focal_gamma": 1})
    with pytest.raises(UserError, match="dice is listed twice"):
        validate(LossConfig, {"main": [{"loss": "dice"}, {"loss": "dice"}]})
    with pytest.raises(UserError, match="class_weights: every class has the weight 0"):
        validate(LossConfig, {"main": "cross_entropy", "class_weights": [0, 0]})
    for wrong in ({"main": []}, {"label_smoothing": 1}, {"aux_weight": -1}, {"lambda": 1}):
        with pytest.raises(UserError):
            validate(LossConfig, wrong)


def test_configuration_from_yaml(tmp_path):
    path = tmp_path / "loss.yaml"
    path.write_text("main: cross_entropy\nclass_weights: [1, 2.5]\nohem_threshold: null\naux: same\n")
    config = load_config(LossConfig, [path], ["label_smoothing=1e-1"])
    assert config.class_weights == (1, 2.5)
    assert config.terms("aux") == (LossTerm(loss="cross_entropy"),)
    assert load_config(LossConfig, [path], ["class_weights=null"]).class_weights == "none"
    assert LossConfig.model_validate(config.model_dump(mode="json")) == config


def test_a_views_own_size_is_where_its_loss_is_taken(fused, labels):
    losses = Objective(LossConfig(per_scale_size="view"))(fused, labels)
    # 21 rows on 10: pixel k spans rows 2.1 k to 2.1 (k + 1), its middle lies in row floor(2.1 k + 1.05).
    rows, columns = (21 * (2 * torch.arange(10) + 1) // 20), 2 * torch.arange(13) + 1
    torch.testing.assert_close(
        losses["scale_0.5"], bce(fused.views[0.5].logits, labels[:, rows][:, :, columns]).detach()
    )
    torch.testing.assert_close(losses["scale_1"], bce(fused.views[1.0].logits, labels).detach())


def test_options_reach_focal(fused, labels):
    config = LossConfig(main="focal", focal_gamma=1, class_weights=(1, 2, 0.5))
    expected = focal(fused.logits, labels, gamma=1, class_weights=torch.tensor([1, 2, 0.5])).detach()
    torch.testing.assert_close(Objective(config)(fused, labels)["main"], expected)


@pytest.mark.parametrize("where", [{"main": "tversky"}, {"main": [{"loss": "tversky"}]}, {"aux": "tversky"}], ids=str)
def test_an_unknown_loss_is_named_once(where):
    with pytest.raises(
        UserError, match=r"must be one of .*rmi, .*lovasz, or a function of yours as module:name"
    ) as error:
        validate(LossConfig, where)
    assert ";" not in str(error.value)


def test_a_misspelt_loss_has_the_right_name_beside_it():
    with pytest.raises(UserError, match=r"lovasz \(did you mean 'focal'\?\), or a function"):
        validate(LossConfig, {"main": "focall"})


FOREIGN = """
def mean_error(logits, labels, weights):
    assert labels.shape == weights.shape == logits[:, 0].shape
    true = logits.gather(1, labels.where(weights > 0, 0)[:, None]).squeeze(1)
    return ((1 - true) * weights).sum() / weights.sum()

def each_pixel(logits, labels, weights):
    return weights

number = 3
"""


@pytest.fixture
def foreign(tmp_path, monkeypatch):
    (tmp_path / "losses_of_somebody.py").write_text(FOREIGN)
    monkeypatch.syspath_prepend(tmp_path)
    yield "losses_of_somebody"
    sys.modules.pop("losses_of_somebody", None)


def test_a_loss_from_outside(fused, labels, foreign):
    config = LossConfig(main=[{"loss": "rmi"}, {"loss": f"{foreign}:mean_error", "weight": 3}], aux="bce")
    losses = Objective(config)(fused, labels)
    valid = labels != 255
    true = fused.logits.gather(1, torch.where(valid, labels, 0)[:, None]).squeeze(1)
    torch.testing.assert_close(losses[f"main.{foreign}:mean_error"], (1 - true)[valid].mean().detach())
    weighted = Objective(LossConfig(main=f"{foreign}:mean_error"))(fused, labels, torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(weighted["main"], (1 - true)[0][valid[0]].mean().detach())


def test_a_loss_from_outside_is_imported_when_a_run_starts_only(fused, labels, foreign):
    config = validate(LossConfig, {"main": f"{foreign}:mean_error"})
    assert foreign not in sys.modules
    Objective(config)
    assert foreign in sys.modules


def test_a_loss_from_outside_that_cannot_be_used_is_named(fused, labels, foreign):
    for path, message in (
        ("no_such_module:loss", "no module .no_such_module. for no_such_module:loss"),
        (f"{foreign}:missing", f"module '{foreign}' has no 'missing'"),
        (f"{foreign}:number", "is a int; name a function"),
        ("not a module:x", "is no import path"),
    ):
        with pytest.raises(UserError, match=message):
            Objective(LossConfig(main=path))
    with pytest.raises(UserError, match=r"each_pixel gave a tensor \(2, 21, 26\); it must return one number"):
        Objective(LossConfig(main=f"{foreign}:each_pixel"))(fused, labels)
