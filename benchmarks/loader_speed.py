"""Reading and augmenting training crops from photographs of 1024 x 2048: Polyscale beside Pillow and torchvision.

    python benchmarks/loader_speed.py

The plain way reads image and mask with Pillow, resizes both at random, cuts 512 x 512, mirrors, changes colours with
torchvision and makes tensors. Images are drawn streets with the noise of a camera, saved as PNG and as JPEG. Times are
the processor's of one crop, medians, turn and turn about.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch
from PIL import Image
from record import save, show
from torchvision.transforms import v2

from polyscale.crops import AugmentConfig
from polyscale.crops.loader import Key, TrainingCrops
from polyscale.crops.sampling import Draw
from polyscale.data import open_data
from polyscale.data.streets import draw_scene, write_streets

SIZE, CROP = (1024, 2048), 512


def write(root: Path, suffix: str, number: int) -> list[tuple[Path, Path]]:
    """Images and masks in the plain layout."""
    write_streets(root, {"train": number}, seed=0)
    pairs = []
    for index in range(number):
        scene, rng = draw_scene(0, index, SIZE), np.random.default_rng(index)
        noisy = np.clip(scene.image + rng.normal(0, 3, scene.image.shape), 0, 255).astype(np.uint8)
        old = sorted((root / "images/train").glob("*"))[index]
        image, mask = old.with_suffix(suffix), root / "masks/train" / f"{old.stem}.png"
        old.unlink()
        Image.fromarray(noisy).save(image, quality=92)
        Image.fromarray(scene.labels).save(mask)
        pairs.append((image, mask))
    return pairs


def plain(pairs: list[tuple[Path, Path]]) -> Callable[[int], Any]:
    """The usual data set of a training script."""
    rng = np.random.default_rng(0)
    jitter = v2.ColorJitter(0.25, 0.25, 0.25)

    def crop(index: int) -> tuple[torch.Tensor, torch.Tensor]:
        image, mask = (Image.open(path) for path in pairs[index % len(pairs)])
        image = image.convert("RGB")
        factor = rng.uniform(0.5, 2)
        size = (round(SIZE[1] * factor), round(SIZE[0] * factor))
        image, mask = image.resize(size, Image.Resampling.BILINEAR), mask.resize(size, Image.Resampling.NEAREST)
        left, top = (int(rng.integers(0, max(1, length - CROP + 1))) for length in size)
        box = (left, top, left + CROP, top + CROP)
        image, mask = image.crop(box), mask.crop(box)
        if rng.random() < 0.5:
            image, mask = (part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for part in (image, mask))
        return v2.functional.to_dtype(v2.functional.pil_to_tensor(jitter(image)), scale=True), torch.from_numpy(
            np.array(mask, dtype=np.int64)
        )

    return crop


def ours(root: Path, quick: bool) -> Callable[[int], Any]:
    """``TrainingCrops`` with the same changes; ``quick`` decodes PNG with pyspng."""
    crops = TrainingCrops(
        open_data(root, "train"), AugmentConfig(crop=(CROP, CROP), scale=(0.5, 2.0), color_jitter=0.25), 0
    )

    def crop(index: int) -> Any:
        if not quick:
            sys.modules["pyspng"] = None  # type: ignore[assignment]
        try:
            return crops[Key(0, Draw(index % len(crops), None, index))]
        finally:
            if not quick:
                del sys.modules["pyspng"]

    return crop


def main() -> None:
    """Measure, print, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crops", type=int, default=40, help="of each way")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows, values = [], {}
    for suffix in (".png", ".jpg"):
        with tempfile.TemporaryDirectory() as folder:
            pairs = write(Path(folder), suffix, 4)
            works = {"plain": plain(pairs), "Polyscale": ours(Path(folder), False)}
            if suffix == ".png":
                works["Polyscale with pyspng"] = ours(Path(folder), True)
            taken: dict[str, list[float]] = {name: [] for name in works}
            for index in range(arguments.crops + 2):
                for name, work in works.items():
                    before = time.process_time()
                    work(index)
                    taken[name].append(1000 * (time.process_time() - before))
        times = {name: median(numbers[2:]) for name, numbers in taken.items()}
        values[suffix[1:]] = times
        rows += [[suffix[1:], name, f"{value:.0f}", f"{times['plain'] / value:.2f}x"] for name, value in times.items()]
    show(f"a crop of {CROP} x {CROP} from 1024 x 2048, one core", ["", "", "ms", "quicker"], rows)
    save("loader-speed", {"size": list(SIZE), "crop": CROP, "milliseconds": values})


if __name__ == "__main__":
    main()
