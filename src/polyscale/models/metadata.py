"""The facts of a checkpoint as safetensors stores them: text by name.

All facts stand in one entry. safetensors writes several entries in another order each time, and equal networks should
be equal files.
"""

import json
from collections.abc import Mapping
from typing import Any

from polyscale.decoders.decoder import idle_keys

__all__ = ["ENTRY", "are_ours", "pack", "unpack"]

ENTRY = "polyscale"
_FORMAT = "polyscale-2"
_FIRST_FORMAT = "polyscale-1"


def pack(facts: Mapping[str, Any]) -> dict[str, str]:
    """Facts that JSON can hold, as metadata."""
    return {ENTRY: json.dumps({"format": _FORMAT, **facts})}


def are_ours(metadata: Mapping[str, str]) -> bool:
    """Whether metadata are those of a Polyscale checkpoint."""
    return ENTRY in metadata or metadata.get("format") == _FIRST_FORMAT


def unpack(metadata: Mapping[str, str]) -> dict[str, Any]:
    """The facts: version, config, label_space and info.

    Raises:
        KeyError, TypeError, AttributeError, ValueError, RecursionError: the metadata are damaged.
    """
    if ENTRY in metadata:
        facts: dict[str, Any] = json.loads(metadata[ENTRY])
        return facts
    # Versions before 0.2 wrote an entry for each.
    config = json.loads(metadata["config"])
    decoder = config.get("decoder", {})
    for key in idle_keys(decoder.get("kind", "light"), decoder):  # they were allowed, and had no effect
        del decoder[key]
    return {
        "version": metadata.get("version", "?"),
        "config": config,
        "label_space": json.loads(metadata["label_space"]),
        "info": json.loads(metadata.get("info", "{}")),
    }
