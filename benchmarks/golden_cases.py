"""One golden case: build its network by the import of the authors' checkpoints, run it, compare what it gives.

Every error is given over its tolerance, so that 1 is the limit everywhere:

  * network outputs: largest difference over 5e-5 of the largest golden value of that array;
  * RMI and BCE alone: loss 1e-6 relative, gradient 1e-5 in relative L2;
  * training: losses 1e-5 relative in float32 and float64; norms of the gradients 1e-5 relative from the network in
    float64, where a norm that is zero but for rounding (a bias before a batch norm) is compared absolutely; running
    statistics, from float64 as well, 5e-4 of their largest value: a batch norm over two values lets float32 drift by
    7e-5 behind it, while one update too few would show as 1e-1.

Inputs are drawn normalised, so the network's own normalisation is set to mean 0 and deviation 1.
"""

import numpy as np
import torch
from golden_rule import GoldenError, input_of, labels_of, weights_of
from torch import nn

from polyscale.config import validate
from polyscale.losses import LossConfig, Objective, bce, rmi_loss
from polyscale.models.reference import load_reference
from polyscale.models.reference.layouts import to_reference
from polyscale.models.reference.names import our_name
from polyscale.models.reference.network import describe
from polyscale.multiscale import HierarchicalMultiScale, resize

__all__ = ["compare", "run_case"]

EVAL, LOSS, GRADIENT, TRAINING, STATISTICS = 5e-5, 1e-6, 1e-5, 1e-5, 5e-4


def run_case(manifest):
    """Array name -> what our network gives for it.

    Raises:
        GoldenError: the case does not fit its own description, or is of a kind that is not known.
        UserError: its network cannot be built here.
    """
    kinds = {"eval": run_eval, "loss": run_loss, "train": run_train}
    if manifest["kind"] not in kinds:
        raise GoldenError(f"kind {manifest['kind']!r} is not known; known are {', '.join(kinds)}")
    given = kinds[manifest["kind"]](manifest)
    unknown = [name for name in manifest["outputs"] if name not in given and name not in LEFT_OUT]
    if unknown:
        raise GoldenError(f"outputs that are not known: {', '.join(unknown[:4])}")
    return given


# float32 gradient norms are reproducible to 2e-2 only (ReLUs flip); their float64 counterpart is compared.
LEFT_OUT = ("grad_norms",)


def build(manifest):
    """The case's network in evaluation mode, and the name here of each of the reference's tensors."""
    case = manifest["case"]
    state = to_reference({key: torch.from_numpy(value) for key, value in weights_of(manifest).items()}, case).state
    explicit = manifest["constructor"]["module"].endswith("attnscale.py")
    scales = manifest["config"]["MODEL.N_SCALES"] if explicit else None
    model = load_reference(state, case, scales, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    if num_parameters != manifest["total_params"]:
        raise GoldenError(f"{num_parameters} parameters instead of {manifest['total_params']}")
    if isinstance(model, HierarchicalMultiScale):
        model.skip_finest = False  # the reference runs the attention head at every scale
    network = describe(state, case, scales)
    names = {key: our_name(key, network.timm, network.config.decoder.kind, network.attention) for key in state}
    return model, names


def run_eval(manifest):
    model, _ = build(manifest)
    images = torch.from_numpy(input_of(manifest))
    settings = manifest["config"]
    if model.method == "hierarchical":
        scales = settings["MODEL.N_SCALES"] or (settings["MODEL.MSCALE_LO_SCALE"], 1.0)
    else:
        scales = model.eval_scales
    heads = []
    if model.method == "explicit":
        model.head.register_forward_hook(lambda *passed: heads.append(passed[-1]))
    with torch.inference_mode():
        fused = model(images, scales)
    outputs = {}
    for name in manifest["outputs"]:
        x = _output(name, fused, heads, images.shape[-2:])
        if x is not None:
            outputs[name] = _thinned(name, x, manifest)
    return outputs


def _output(name, fused, heads, size):
    if name == "pred":
        return fused.logits
    if name == "attn_last" and heads:
        return heads[0][:, -1:]
    kind, _, scale = name.partition("_")
    view = fused.views.get(_scale(scale))
    if kind == "pred" and view is not None:
        return view.logits
    if name == "attn_10x":  # of the pairwise form: the coarsest attention, at the image's size
        return resize(fused.views[min(fused.views)].attention, size)
    if kind == "attn" and view is not None and view.attention is not None:
        return view.attention
    return None


def _scale(text):
    """``0.25x`` and ``05x`` as numbers; None where it is neither."""
    digits = text.removesuffix("x")
    try:
        return float(digits) if "." in digits else int(digits) / 10
    except ValueError:
        return None


def _thinned(name, x, manifest):
    described = manifest["outputs"][name]
    if list(x.shape) != described["full_shape"]:
        raise GoldenError(f"{name} has the shape {tuple(x.shape)} instead of {tuple(described['full_shape'])}")
    return x[:, :, :: described["stride"], :: described["stride"]].numpy()


def run_loss(manifest):
    logits, labels = torch.from_numpy(input_of(manifest)), torch.from_numpy(labels_of(manifest))
    given = {"labels": labels.numpy()}
    for name, loss in (("rmi", rmi_loss), ("bce", bce)):
        leaf = logits.clone().requires_grad_()
        value = loss(leaf, labels)
        value.backward()
        given[f"loss_{name}"], given[f"grad_{name}"] = value.detach().numpy(), leaf.grad.numpy()
    return given


def run_train(manifest):
    model, names = build(manifest)
    images, labels = torch.from_numpy(input_of(manifest)), torch.from_numpy(labels_of(manifest))
    objective = _objective(manifest["config"])
    model.train()
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
    start = {name: value.clone() for name, value in model.state_dict().items()}
    given = {"labels": labels.numpy()}
    with torch.no_grad():
        terms = objective(model(images, model.train_scales), labels)
    given |= {"loss": terms["total"].numpy(), "criterion_calls": _calls(terms)}
    model.load_state_dict(start)
    model.double()
    terms = objective(model(images.double(), model.train_scales), labels)
    terms["total"].backward()
    after = model.state_dict()
    given |= {f"after:{key}": after[name].numpy() for key, name in names.items() if "running_" in key}
    given |= {"loss_fp64": terms["total"].detach().numpy(), "criterion_calls_fp64": _calls(terms)}
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    norms = [gradients[names[key]] for key in manifest["grad_norm_order"]]
    given["grad_norms_fp64"] = np.array([0.0 if x is None else float(x.norm()) for x in norms])
    return given


def _objective(settings):
    losses = {"RMILoss": "rmi", "CrossEntropyLoss2d": "cross_entropy"}
    if settings["criterion"] not in losses:
        raise GoldenError(f"criterion {settings['criterion']!r} is not known")
    main = losses[settings["criterion"]]
    config = {
        "main": main,
        "aux": "rmi" if settings["LOSS.OCR_AUX_RMI"] and main == "rmi" else "same",
        "aux_weight": settings["LOSS.OCR_ALPHA"],
        "per_scale_weight": settings["LOSS.SUPERVISED_MSCALE_WT"],
    }
    return Objective(validate(LossConfig, config))


def _calls(terms):
    """The reference's order: auxiliary, main, then each scale from the coarsest."""
    order = [name for name in ("aux", "main") if name in terms]
    order += sorted((name for name in terms if name.startswith("scale_")), key=lambda name: float(name[6:]))
    return np.array([float(terms[name].detach()) for name in order])


def compare(name, given, golden):
    """The error of one array over its tolerance; infinite where shapes differ or a value of either is not finite."""
    given, golden = np.asarray(given), np.asarray(golden)
    if given.shape != golden.shape:
        return np.inf
    given, golden = given.astype(np.float64), golden.astype(np.float64)
    if not (np.isfinite(given).all() and np.isfinite(golden).all()):
        return np.inf
    if name == "labels":
        return 0.0 if np.array_equal(given, golden) else np.inf
    if name.startswith("grad_norms"):
        # A norm that is zero but for rounding has no relative error: the floor makes its comparison absolute.
        floor = 1e-6 * golden.max()
        return float((np.abs(given - golden) / np.maximum(golden, floor)).max() / TRAINING)
    if name.startswith("grad_"):
        return float(np.linalg.norm(given - golden) / (np.linalg.norm(golden) or 1.0) / GRADIENT)
    if name in ("loss_rmi", "loss_bce"):
        return float(abs(given - golden) / (abs(golden) or 1.0) / LOSS)
    if name.startswith(("loss", "criterion_calls")):
        return float((np.abs(given - golden) / np.where(golden == 0, 1.0, np.abs(golden))).max() / TRAINING)
    tolerance = STATISTICS if name.startswith("after:") else EVAL
    return float(np.abs(given - golden).max() / (np.abs(golden).max() or 1.0) / tolerance)
