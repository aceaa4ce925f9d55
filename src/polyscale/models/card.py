"""A model card: what a network is, what it was trained on, how good it is, and how to use it."""

from collections.abc import Mapping
from typing import Any

import polyscale
from polyscale.labels import LabelSpace
from polyscale.multiscale import MultiScale

__all__ = ["FACTS", "model_card"]

FACTS = {
    "trained_on": "Trained on",
    "split": "Scored on",
    "resolution": "Resolution",
    "pretraining": "Pretraining",
    "score": "Score",
    "controls": "Controls",
    "licence": "Licence",
}
"""Facts of a training that a reader looks for, and what the card calls them."""

_METHODS = {
    "hierarchical": "hierarchical attention: each pixel learns which scale to trust (arXiv:2005.10821)",
    "explicit": "explicit attention over a fixed set of scales (arXiv:1511.03339)",
    "average": "average of the probabilities over scales",
    "single": "one scale",
}


def model_card(model: MultiScale, label_space: LabelSpace, info: Mapping[str, Any], name: str) -> str:
    """The text of a card, as the Hugging Face Hub reads it.

    Args:
        model: the network.
        label_space: of its classes.
        info: facts of its training; those in ``FACTS`` become rows, and what is missing is said to be unknown.
        name: by which it can be loaded, such as ``hf://me/streets``.
    """
    config = model.config
    foreign = config is not None and config.foreign is not None
    parts = config.foreign.build if foreign else f"{config.backbone.name}, decoder {config.decoder.kind}"
    scales = ", ".join(f"{scale:g}" for scale in sorted(model.eval_scales))
    rows = [
        ("Network", f"{parts}; {sum(x.numel() for x in model.parameters()) / 1e6:.1f} million parameters"),
        ("Scales", f"{scales}; {_METHODS.get(model.method, model.method)}"),
        *((title, _told(key, info)) for key, title in FACTS.items()),
    ]
    table = "\n".join(f"| {title} | {_cell(text)} |" for title, text in rows)
    classes = "\n".join(f"| {number} | {_cell(item)} |" for number, item in enumerate(label_space.names))
    trust = (
        f"\nIt is built by `{config.foreign.build}`, so loading it needs `trust=[...]` with that name.\n"
        if foreign
        else ""
    )
    return f"""---
library_name: polyscale
pipeline_tag: image-segmentation
license: other
tags:
- image-segmentation
- semantic-segmentation
---

# {name.rpartition("/")[2]}

A network for semantic segmentation with {label_space.num_classes} classes, written by Polyscale
{polyscale.__version__}.

| | |
|---|---|
{table}

## How to use it

```bash
pip install polyscale
polyscale predict {name} photo.jpg
```

```python
import polyscale

network = polyscale.load("{name}")
result = network.predict("photo.jpg")
```
{trust}
## Classes

| id | class |
|---|---|
{classes}
"""


def _told(key: str, info: Mapping[str, Any]) -> str:
    if key in info:
        return str(info[key])
    if key == "score" and "miou" in info:  # what training writes by itself
        return f"{100 * float(info['miou']):.1f} mIoU in validation"
    return "not stated"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
