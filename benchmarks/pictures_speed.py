"""From logits to files: classes, confidence and the pictures of one ``predict`` at 512 x 1024, on one core.

    python benchmarks/pictures_speed.py

The plain way enlarges all logits, takes softmax and maximum, and saves with Pillow's defaults. The logits are those of
the network that ships with the package, for a drawn street. Times are the processor's, which other work on the machine
touches less than the clock.
"""

import argparse
import io
import os
import time
from collections.abc import Callable
from statistics import median

# As the polyscale command does; both are read when torch is imported.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["THP_MEM_ALLOC_ENABLE"] = "1"

import numpy as np
import torch
from PIL import Image
from record import save, show

import polyscale
from polyscale import pictures
from polyscale.baselines import AveragePooling
from polyscale.data.png import encode_index_png
from polyscale.data.streets import draw_scene
from polyscale.memory import keep_freed_memory
from polyscale.strips import classify
from polyscale.views import resize

SIZE = (512, 1024)


def plain_classes(maps: list[torch.Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """Labels and confidence by way of all probabilities at full size."""
    mean = torch.stack([resize(logits, SIZE).softmax(1) for logits in maps]).mean(0)
    confidence, labels = mean.max(1)
    return labels[0].to(torch.uint8).numpy(), confidence[0].numpy()


def quick_classes(maps: list[torch.Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """The same in strips."""
    found = classify(maps, SIZE)
    return found.labels[0].numpy(), found.confidence[0].numpy()


def plain_grey(values: np.ndarray) -> np.ndarray:
    """0 to 1 as bytes, with a copy for each step."""
    return np.rint(np.clip(np.nan_to_num(values, nan=0.0), 0, 1) * 255).astype(np.uint8)


def by_pillow(grey: np.ndarray, palette: np.ndarray | None) -> bytes:
    """PNG with Pillow's defaults."""
    picture, file = Image.fromarray(grey), io.BytesIO()
    if palette is not None:
        picture.putpalette(palette.tobytes())
    picture.save(file, "PNG")
    return file.getvalue()


def plain_overlay(image: np.ndarray, labels: np.ndarray, space: polyscale.LabelSpace) -> np.ndarray:
    """The blend in floating point."""
    share = np.full(labels.shape, 0.5, dtype=np.float32)
    share[pictures.boundaries(labels)] = 1
    blended = image + share[..., None] * (space.colorize(labels).astype(np.float32) - image)
    return np.rint(blended).astype(np.uint8)


def main() -> None:
    """Measure, print, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    arguments = parser.parse_args()
    keep_freed_memory()
    network = polyscale.load("camvid-lite0")
    image = draw_scene(0, 0, SIZE).image
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        maps, _ = AveragePooling(network.model.segmenter).maps(pixels, (2.0, 1.0, 0.5))
        maps = [logits.contiguous() for logits in maps]
    labels, confidence = quick_classes(maps)
    # An average has no weights of pixels, so some are made: of how sure each scale is.
    sure = torch.stack([classify([logits], SIZE).confidence[0] for logits in maps])
    weights = list((4 * sure).softmax(0).numpy())
    heat = pictures.heat_palette()
    works: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "classes and confidence": (lambda: plain_classes(maps[1:2]), lambda: quick_classes(maps[1:2])),
        "the same of three averaged scales": (lambda: plain_classes(maps), lambda: quick_classes(maps)),
        "confidence PNG": (
            lambda: by_pillow(plain_grey(confidence), None),
            lambda: encode_index_png(pictures.to_grey8(confidence), None),
        ),
        f"{len(weights)} weight PNGs": (
            lambda: [by_pillow(plain_grey(weight), heat) for weight in weights],
            lambda: [encode_index_png(pictures.to_grey8(weight), heat) for weight in weights],
        ),
        "overlay without its JPEG": (
            lambda: plain_overlay(image, labels, network.label_space),
            lambda: pictures.overlay(image, labels, network.label_space, lines=True),
        ),
    }
    rows, values = [], {}
    for name, pair in works.items():
        taken: list[list[float]] = [[], []]
        for _ in range(arguments.repeats + 1):
            for place, work in enumerate(pair):
                before = time.process_time()
                work()
                taken[place].append(1000 * (time.process_time() - before))
        plain, quick = (median(times[1:]) for times in taken)
        values[name] = {"plain_ms": plain, "polyscale_ms": quick}
        rows.append([name, f"{plain:.0f} ms", f"{quick:.0f} ms", f"{plain / quick:.1f}x"])
    show("one prediction at 512 x 1024", ["", "plain", "Polyscale", "ratio"], rows)
    grey = pictures.to_grey8(confidence)
    sizes = {"plain_bytes": len(by_pillow(grey, None)), "polyscale_bytes": len(encode_index_png(grey, None))}
    print(f"confidence PNG: {sizes['plain_bytes']:,} bytes plain, {sizes['polyscale_bytes']:,} bytes here")
    save("pictures-speed", {"size": list(SIZE), "milliseconds": values, "confidence_png": sizes})


if __name__ == "__main__":
    main()
