"""A network as a folder with a model card, on disk or on the Hugging Face Hub."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from polyscale.config import read_yaml
from polyscale.errors import UserError
from polyscale.files import check_folder, write_atomically
from polyscale.labels import LabelSpace
from polyscale.models.card import model_card
from polyscale.models.checkpoint import load_checkpoint, save_checkpoint
from polyscale.models.finding import find_network
from polyscale.models.onnx_network import OnnxNetwork
from polyscale.multiscale import MultiScale

__all__ = ["Publishable", "push_to_hub", "save_pretrained"]

WEIGHTS = "model.safetensors"
CARD = "README.md"


class Publishable(Protocol):
    """What has a network, its classes and the facts of its training, such as a ``Predictor``."""

    @property
    def model(self) -> MultiScale:
        """The network."""

    @property
    def label_space(self) -> LabelSpace:
        """The label space of its classes."""

    @property
    def info(self) -> Mapping[str, Any]:
        """Facts of its training."""


def save_pretrained(
    network: Publishable | str | Path,
    folder: str | Path,
    info: Mapping[str, Any] | None = None,
    *,
    half: bool = False,
    name: str | None = None,
) -> Path:
    """Write ``model.safetensors`` and a model card, ``README.md``, into a folder, which then stands for the network.

    Args:
        network: a ``Predictor``, or what ``polyscale.load`` takes.
        folder: where to; it is made where it is missing. A network and a card that are there are replaced.
        info: facts that the run does not know, or that stand in place of its own: trained_on, split, resolution,
            pretraining, score, licence.
        half: store float16.
        name: by which the card says to load the network; by default the folder's.

    Returns:
        The folder.

    Raises:
        UserError: the folder cannot be written, or the network was not built from a configuration.
    """
    facts: dict[str, Any] = {}
    opened: Publishable
    if isinstance(network, str | Path):
        opened = load_checkpoint(network)
        facts = _facts_of_run(find_network(network).with_name("config.yaml"))
    else:
        opened = network
    facts |= {**opened.info, **(info or {})}
    folder = Path(folder)
    if opened.model.config is None or isinstance(opened.model, OnnxNetwork):
        raise UserError("only networks of a checkpoint have a card and can be published; name a checkpoint or a run")
    check_folder(folder)
    save_checkpoint(folder / WEIGHTS, opened.model, opened.label_space, facts, half=half)
    with write_atomically(folder / CARD) as temporary:
        card = model_card(opened.model, opened.label_space, facts, name or folder.as_posix())
        temporary.write_text(card, encoding="utf-8")
    return folder


def push_to_hub(
    network: Publishable | str | Path,
    repository: str,
    info: Mapping[str, Any] | None = None,
    *,
    private: bool = False,
    half: bool = False,
) -> str:
    """Put a network with its model card on the Hugging Face Hub, for ``polyscale.load("hf://user/name")``.

    The account is that of ``hf auth login`` or of the environment's ``HF_TOKEN``.

    Args:
        network: as for ``save_pretrained``.
        repository: ``user/name``; it is made where it is missing.
        info: as for ``save_pretrained``.
        private: make a missing repository private.
        half: store float16.

    Returns:
        The name to load it by.

    Raises:
        UserError: the hub refuses or cannot be reached, or as for ``save_pretrained``.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    repository = repository.removeprefix("hf://")
    name = f"hf://{repository}"
    with TemporaryDirectory() as folder:
        save_pretrained(network, folder, info, half=half, name=name)
        hub = HfApi()
        try:
            hub.create_repo(repository, private=private, exist_ok=True)
            hub.upload_folder(repo_id=repository, folder_path=folder, commit_message="Network and card by Polyscale")
        except (HfHubHTTPError, HFValidationError, OSError, ValueError) as error:
            told = " ".join(str(error).split())[:200]
            raise UserError(
                f"the hub did not take {repository} ({told}); check the name (user/name), the connection and "
                "`hf auth login`"
            ) from None
    return name


def _facts_of_run(recipe: Path) -> dict[str, str]:
    """What the resolved recipe beside a run's network says of its training; names of folders without their paths."""
    if not recipe.is_file():
        return {}
    values = read_yaml(recipe)
    found = {
        "trained_on": _data(_at(values, "data", "train")),
        "split": _data(_at(values, "data", "val")),
        "resolution": _crop(_at(values, "augment", "crop")),
        "pretraining": _start(_at(values, "model", "backbone", "pretrained"), _at(values, "training", "start_from")),
    }
    return {key: text for key, text in found.items() if text}


def _at(values: Any, *keys: str) -> Any:
    for key in keys:
        values = values.get(key) if isinstance(values, dict) else None
    return values


def _data(config: Any) -> str:
    if _at(config, "kind") == "mix":
        sources = _at(config, "sources")
        return ", ".join(filter(None, (_data(_at(item, "data")) for item in (sources or {}).values())))
    root = _at(config, "root")
    named = Path(str(root)).name if root else str(_at(config, "kind") or "")
    split = _at(config, "split")
    return f"{named}, {split}" if named and isinstance(split, str) else named


def _crop(crop: Any) -> str:
    return f"crops of {crop[0]} x {crop[1]}" if isinstance(crop, list | tuple) and len(crop) == 2 else ""


def _start(pretrained: Any, start_from: Any) -> str:
    if start_from:
        return f"the network {Path(str(start_from)).name}"
    if isinstance(pretrained, str):
        return f"backbone from {Path(pretrained).name}"
    return {True: "backbone from ImageNet", False: "none"}.get(pretrained, "")
