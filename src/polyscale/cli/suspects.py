"""``polyscale data suspects``: labels that are probably wrong, most suspect first, with pictures."""

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polyscale.cli import options
from polyscale.cli.display import print_table, progress_bar, say, say_written
from polyscale.files import check_folder, write_atomically

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image

    from polyscale.data import SegmentationData
    from polyscale.evaluation.suspects import SuspectRegion, Suspects
    from polyscale.inference.predictor import Predictor
    from polyscale.report import Example

__all__ = ["suspects"]

NUM_SHOWN = 10
"""Rows of each table on the screen."""


def suspects(
    checkpoint: options.Checkpoint,
    data: options.Data,
    out: Annotated[Path, typer.Option("--out", help="Folder of the results.", show_default=False)],
    split: Annotated[str | None, typer.Option("--split", help="Only this split. By default all images.")] = None,
    scales: options.Scales = None,
    flip: options.Flip = False,
    smallest: Annotated[int, typer.Option(min=1, help="Leave out regions of fewer pixels.")] = 16,
    most: Annotated[int, typer.Option(min=1, help="Regions and images to list in the files.")] = 10_000,
    pictures: Annotated[int, typer.Option(min=0, help="Regions to show on the page.")] = 40,
    device: options.Device = None,
    precision: options.Precision = options.NumberType.float32,
    trust: options.Trust = None,
) -> None:
    """List labels that are probably wrong, most suspect first.

    A region is suspect where the network is sure of another class than its label, and is mostly right when it is as
    sure of that class elsewhere. Best with a network that was not trained on these images: train it on one half and
    search the other. Writes suspects.csv (regions), suspects.json (images and counts) and suspects.html with pictures.

    Example: polyscale data suspects runs/first mydata:val --out suspects
    """
    wanted = options.parse_scales(scales)
    import polyscale
    from polyscale.data import open_data
    from polyscale.evaluation.suspects import find_suspects
    from polyscale.training.seen import images_trained_on

    check_folder(out)
    predictor = polyscale.load(checkpoint, device, precision.value, trust or ())
    opened = open_data(data, split, predictor.label_space)
    seen = images_trained_on(checkpoint)
    number = None if seen is None else sum(item.image.resolve() in seen for item in opened.items)
    told = _told(number, len(opened))
    say(told)
    with progress_bar("looking for suspects") as progress:
        found = find_suspects(
            predictor.looker, opened, predictor.label_space, wanted, flip=flip, smallest=smallest, progress=progress
        )
    details = {
        "checkpoint": str(checkpoint),
        "data": data if split is None else f"{data}:{split}",
        "scales": sorted(predictor.looker.choose(wanted)),
        "flip": flip,
        "trained_on": number,
    }
    written = [_write_csv(out / "suspects.csv", found, most), _write_json(out / "suspects.json", found, most, details)]
    written.append(_write_page(out / "suspects.html", found, opened, predictor, wanted, flip, pictures, told, details))
    for table in _tables(found, NUM_SHOWN):
        print_table(*table)
    say(f"{len(found.regions)} suspect regions in {len(found.images)} of {found.num_images} images")
    say_written(written)


def _told(number: int | None, total: int) -> str:
    if number is None:
        return "it is not known whether the network was trained on these images; labels it learnt look right to it"
    if number:
        return (
            f"the network was trained on {number} of these {total} images: labels that it learnt look right to it; "
            "train on other images to find more"
        )
    return "the network was not trained on these images"


def _tables(found: "Suspects", most: int) -> "list[tuple[str, list[str], list[list[str]]]]":
    names = found.label_space.names
    regions = [
        [one.name, _place(one), names[one.label], names[one.predicted], f"{one.pixels:,}", f"{one.score:.3f}"]
        for one in found.regions[:most]
    ]
    images = [[one.name, str(one.regions), f"{one.pixels:,}", f"{one.score:,.0f}"] for one in found.images[:most]]
    pairs = [[names[label], names[other], f"{pixels:,}"] for label, other, pixels in found.confusions(most)]
    return [
        ("Most suspect regions", ["image", "x, y, width x height", "label", "network", "pixels", "score"], regions),
        ("Most suspect images", ["image", "regions", "pixels in them", "pixels probably wrong"], images),
        ("Label and network differ most", ["label", "network", "pixels"], pairs),
    ]


def _place(one: "SuspectRegion") -> str:
    top, left, bottom, right = one.box
    return f"{left}, {top}, {right - left} x {bottom - top}"


def _write_csv(path: Path, found: "Suspects", most: int) -> Path:
    names = found.label_space.names
    columns = ["image", "left", "top", "right", "bottom", "label", "network", "pixels", "confidence"]
    with write_atomically(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*columns, "label_probability", "part_of_object", "score"])
        for one in found.regions[:most]:
            top, left, bottom, right = one.box
            numbers = [f"{value:.4f}" for value in (one.confidence, one.label_probability, one.whole, one.score)]
            row = [one.name, left, top, right, bottom, names[one.label], names[one.predicted], one.pixels]
            writer.writerow([*row, *numbers])
    return path


def _write_json(path: Path, found: "Suspects", most: int, details: dict[str, Any]) -> Path:
    content = {
        **details,
        "classes": list(found.label_space.names),
        "num_images": found.num_images,
        "num_objects": found.num_objects,
        "num_regions": len(found.regions),
        "smallest": found.smallest,
        "images": [
            {"name": one.name, "regions": one.regions, "pixels": one.pixels, "score": round(one.score, 2)}
            for one in found.images[:most]
        ],
        "counts": found.counts.tolist(),
    }
    with write_atomically(path) as temporary:
        temporary.write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def _write_page(
    path: Path,
    found: "Suspects",
    data: "SegmentationData",
    predictor: "Predictor",
    scales: "Sequence[float] | None",
    flip: bool,
    pictures: int,
    told: str,
    details: dict[str, Any],
) -> Path:
    from polyscale.data.bands import as_rgb
    from polyscale.report import Card, ClassResult, PageData, Table, write_page

    shown = found.regions[:pictures]
    examples: dict[int, Example] = {}
    for index in dict.fromkeys(one.item for one in shown):  # each image is read and looked at once
        sample = data.read(index)
        predicted = predictor.predict(sample.image, scales, flip, probabilities=False).labels
        assert sample.labels is not None
        for place, one in enumerate(shown):
            if one.item == index:
                examples[place] = _example(place + 1, one, as_rgb(sample.image), sample.labels, predicted, found)
    page = PageData(
        title="Suspect labels",
        summary=f"{told[0].upper()}{told[1:]}.",
        cards=[
            Card("Suspect regions", f"{len(found.regions):,}", f"of {found.smallest} pixels or more"),
            Card("Images with one", f"{len(found.images):,}", f"of {found.num_images:,}"),
            Card("Labelled regions", f"{found.num_objects:,}", f"of {found.smallest} pixels or more"),
        ],
        examples=[examples[place] for place in sorted(examples)],
        classes=[ClassResult(item.name, item.color) for item in found.label_space.classes],
        tables=[Table(*table) for table in _tables(found, 50)],
        details={name.replace("_", " "): str(value) for name, value in details.items()},
    )
    write_page(path, page)
    return path


def _example(rank: int, one: "SuspectRegion", image: Any, labels: Any, predicted: Any, found: "Suspects") -> "Example":
    import numpy as np
    from PIL import Image

    from polyscale.pictures import overlay
    from polyscale.report import Example, Picture, Strip, crop_around

    inside = np.zeros(labels.shape, dtype=bool)
    top, left, bottom, right = one.box
    inside[top:bottom, left:right] = True
    rows, columns = crop_around(inside)
    region = (labels == one.label) & (predicted == one.predicted) & inside
    names = found.label_space.names
    crop = image[rows, columns]
    parts = [
        ("Image", Image.fromarray(crop)),
        (f"Label: {names[one.label]}", overlay(crop, labels[rows, columns], found.label_space, 0.6)),
        (f"Network: {names[one.predicted]}", overlay(crop, predicted[rows, columns], found.label_space, 0.6)),
    ]
    framed = [Picture(caption, _framed(picture, region[rows, columns])) for caption, picture in parts]
    note = (
        f"{one.pixels:,} pixels at x {left}, y {top}. Probability of {names[one.predicted]} {one.confidence:.2f}, of "
        f"{names[one.label]} {one.label_probability:.2f}; {100 * one.whole:.0f} % of the object. Score {one.score:.3f}."
    )
    return Example(f"{rank}. {one.name}", [Strip(framed)], note)


def _framed(picture: "Image.Image", region: Any) -> "Image.Image":
    """A picture enlarged to be seen, with a white line around the region."""
    import numpy as np
    from PIL import Image

    factor = max(1, 360 // max(picture.size))
    large = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    mask = np.kron(region, np.ones((factor, factor), dtype=bool))
    padded = np.pad(mask, 1)
    around = padded[2:, 1:-1] | padded[:-2, 1:-1] | padded[1:-1, 2:] | padded[1:-1, :-2]
    pixels = np.array(large)
    pixels[around & ~mask] = 255
    return Image.fromarray(pixels)
