"""One picture that shows an evaluation's idea on one image: what each scale says, and which is trusted where."""

import numpy as np
from PIL import Image

from polyscale.errors import UserError
from polyscale.pictures import error_map, legend, panel, trust_map
from polyscale.report.embed import film
from polyscale.report.palettes import distinct_colors
from polyscale.report.stored import Stored
from polyscale.report.ways import label_space, scale_color, scale_text

__all__ = ["best_example", "summary_picture"]

NUM_COLUMNS = 4


def best_example(stored: Stored) -> int:
    """The image stored in full that fusion gains most on; the first where there is nothing to gain.

    Raises:
        UserError: no image was stored in full.
    """
    items = film(stored) if stored.about is not None else []
    shown = [k for k, item in enumerate(items) if item["stored"]]
    if not shown:
        raise UserError(f"{stored.folder} holds no image in full; evaluate again with --report --gallery 12")
    return max(shown, key=lambda k: items[k]["gain"] or 0)


def summary_picture(stored: Stored, index: int | None = None) -> Image.Image:
    """Photograph, truth, fused result and its errors; below them each scale alone, and where each is trusted.

    Args:
        stored: an evaluation with images stored in full.
        index: which image; by default ``best_example``.

    Raises:
        UserError: no image was stored in full.
    """
    index = best_example(stored) if index is None else index
    about = stored.about
    assert about is not None
    pictures = stored.pictures(about["images"][index])
    colors = distinct_colors(tuple(tuple(color) for color in about["colors"]))
    space = label_space({**about, "colors": colors})
    photo = np.asarray(Image.open(pictures.pop("photo")).convert("RGB"))
    maps = {name: np.asarray(Image.open(path)) for name, path in pictures.items()}
    shown = [
        ("Photograph", Image.fromarray(photo)),
        ("Truth", Image.fromarray(space.colorize(maps["truth"]))),
        ("Fused", Image.fromarray(space.colorize(maps["fused"]))),
        ("Errors of the fused result", error_map(photo, maps["fused"], maps["truth"])),
    ]
    shown += [
        (f"{scale_text(scale)} alone", Image.fromarray(space.colorize(maps[name])))
        for scale in about["scales"]
        if (name := f"scale-{scale:g}") in maps
    ]
    weights = [maps[f"weight-{scale:g}"] for scale in about["weighted_scales"] if f"weight-{scale:g}" in maps]
    if len(weights) > 1:
        large = [np.asarray(Image.fromarray(weight).resize((photo.shape[1], photo.shape[0]))) for weight in weights]
        hues = [scale_color(about["scales"].index(scale)) for scale in about["weighted_scales"]]
        names = ", ".join(scale_text(scale) for scale in about["weighted_scales"])
        shown.append((f"Trust: {names}", trust_map(photo, large, hues)))
    return panel(shown, NUM_COLUMNS, legend(space, NUM_COLUMNS * photo.shape[1]))
