"""Finds the file of a name: a checkpoint, a run's folder, a network that ships with the package or lies on a hub."""

import re
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open

from polyscale.errors import UserError, nearest
from polyscale.files import refuse_address
from polyscale.models.metadata import unpack

__all__ = ["SHIPPED", "Shipped", "find_network", "names_network", "shipped_file", "shipped_networks"]

SHIPPED = Path(__file__).with_name("shipped")
"""Networks that ship with the package, one safetensors file each."""

SHORT = {"streets": "camvid-lite0", "people": "people-lite0", "person": "person-lite0"}
"""Short names of networks that ship."""

BEST = ("best.safetensors", "last.safetensors", "model.safetensors")
"""File names that stand for a folder, in this order."""

_HUB = re.compile(r"hf:/{1,2}([\w.-]+/[\w.-]+)(?:/(\S+\.safetensors))?")


class Shipped(NamedTuple):
    """A network that ships with the package."""

    name: str
    file: Path
    classes: tuple[str, ...]
    info: dict[str, Any]
    """Facts of its training: data, licence, split, resolution, pretraining, scores."""


def find_network(name: str | Path) -> Path:
    """The checkpoint that a name stands for.

    Args:
        name: a file, also ``.onnx`` of ``polyscale export``; a folder, which stands for its best network;
            ``hf://user/name`` on the Hugging Face Hub; or a network that ships with the package (``polyscale models``
            lists them).

    Raises:
        UserError: there is no such network; the message names the nearest.
    """
    path, text = Path(name).expanduser(), str(name)
    if path.is_file():
        return path
    if path.is_dir():
        for best in BEST:
            if (path / best).is_file():
                return path / best
        if (path / "resume.pt").is_file():
            raise UserError(f"the run in {path} has saved no network yet; continue it with polyscale train --resume")
        raise UserError(f"{path} is a folder without a network ({', '.join(BEST)}); name the file, or a run's folder")
    if hub := _HUB.fullmatch(text):
        return _from_hub(hub[1], hub[2] or "model.safetensors")
    known = _shipped()
    if text in known:
        return known[text]
    if not text.startswith("hf:"):
        refuse_address(name)
    if path.suffix or len(path.parts) > 1:
        raise UserError(f"no checkpoint at {path}")
    raise UserError(
        f"no file, folder or network is called {text!r}{nearest(text, known)}; networks that ship with Polyscale: "
        f"{', '.join(sorted(known)) or 'none'}"
    )


def shipped_file(name: str) -> Path:
    """The file of a network that ships, whatever else has its name in the working folder."""
    return _shipped()[name]


def shipped_networks() -> list[Shipped]:
    """All networks that ship with the package, by name."""
    found = []
    for file in sorted(SHIPPED.glob("*.safetensors")):
        with safe_open(file, framework="pt") as opened:
            facts = unpack(opened.metadata())
        classes = tuple(item["name"] for item in facts["label_space"]["classes"])
        found.append(Shipped(file.stem, file, classes, facts["info"]))
    return found


def _from_hub(repository: str, file: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(repository, file))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError, SafetensorError) as error:
        told = " ".join(str(error).split())[:200]
        raise UserError(f"hf://{repository} gives no {file} ({told}); check the name and the connection") from None


def names_network(text: str) -> bool:
    """Whether an argument names a network, and not an image or a folder of images."""
    path = Path(text).expanduser()
    return (
        path.suffix.lower() in (".safetensors", ".onnx", ".pth", ".pt", ".pdparams", ".yaml", ".yml")
        or text.startswith("hf:/")
        or text in _shipped()
        or (path.is_dir() and any((path / best).is_file() for best in BEST))
    )


def _shipped() -> dict[str, Path]:
    """File by name; the short names stand for what they show."""
    files = {file.stem: file for file in SHIPPED.glob("*.safetensors")}
    return files | {short: files[name] for short, name in SHORT.items() if name in files}
