"""From arrays to the pictures of one example."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from polyscale.labels import IGNORE, LabelSpace
from polyscale.pictures import error_map, heat_map
from polyscale.report.data import Example, Picture, Strip

__all__ = ["example"]

Array = np.ndarray[Any, Any]


def example(
    name: str,
    image: Array,
    prediction: Array,
    label_space: LabelSpace,
    truth: Array | None = None,
    attention: Mapping[float, Array] | None = None,
    alone: Mapping[float, Array] | None = None,
    note: str = "",
) -> Example:
    """Input, truth, prediction and error; the weight of each scale; and, if given, what each scale says alone.

    Args:
        name: of the example.
        image: (H, W, 3) uint8 RGB.
        prediction: (H, W) train ids.
        label_space: whose colours.
        truth: (H, W) train ids; without them there is no error either.
        attention: scale -> (H, W) effective weight in [0, 1].
        alone: scale -> (H, W) train ids predicted at that scale alone.
        note: a sentence under the name.
    """
    shown = [Picture("Input", Image.fromarray(image))]
    if truth is not None:
        shown.append(Picture("Truth", Image.fromarray(label_space.colorize(truth)), f"True classes of {name}"))
    shown.append(
        Picture("Prediction", Image.fromarray(label_space.colorize(prediction)), f"Predicted classes of {name}")
    )
    if truth is not None:
        wrong = (prediction != truth) & (truth != IGNORE)
        where = "wrong pixels are red, ignored ones black" if wrong.any() else "no wrong pixel"
        shown.append(Picture("Error", error_map(image, prediction, truth), f"Errors in {name}: {where}"))
    strips = [Strip(shown)]
    if alone:
        pictures = [
            Picture(
                f"{scale:g}x alone",
                Image.fromarray(label_space.colorize(labels)),
                f"Classes of {name} predicted at {scale:g}x alone",
            )
            for scale, labels in sorted(alone.items())
        ]
        together = Picture(
            "All together", Image.fromarray(label_space.colorize(prediction)), f"Predicted classes of {name}"
        )
        strips.append(Strip([*pictures, together], "Each scale alone, and all together"))
    if attention:
        pictures = [
            Picture(f"Weight of {scale:g}x", heat_map(weights), f"Where the result of {name} rests on scale {scale:g}x")
            for scale, weights in sorted(attention.items())
        ]
        strips.append(Strip(pictures, "Attention: how much each scale counts", heat=True))
    return Example(name, strips, note)
