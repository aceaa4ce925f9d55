"""Tiles against the whole image, on photographs that fit: share of pixels with the same class, and time.

    python benchmarks/tiles.py PHOTO[:TIMES] … [--network camvid-lite0] [--tiles 1024:128,2048:256]

``photo.jpg:4`` is enlarged four times before. Time is the processor's, of one thread, tiles against whole.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from record import save, show

import polyscale
from polyscale.cli.options import parse_scales
from polyscale.tiles import ArrayPixels, Tiles, classify_in_tiles


def read(given: str) -> tuple[str, np.ndarray]:
    path, _, times = given.partition(":")
    with Image.open(path) as image:
        factor = float(times or 1)
        image = image.convert("RGB").resize(
            (round(image.width * factor), round(image.height * factor)), Image.Resampling.BICUBIC
        )
        return Path(path).name, np.array(image)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", nargs="+")
    parser.add_argument("--network", default="camvid-lite0")
    parser.add_argument("--tiles", default="1024:128,2048:256")
    parser.add_argument("--scales")
    parser.add_argument("--name", default="tiles")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    network = polyscale.load(arguments.network, device="cpu")
    scales = network.looker.choose(parse_scales(arguments.scales))
    rows = []
    for given in arguments.photos:
        name, pixels = read(given)
        image = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
        started = time.process_time()
        whole = network.looker.classify(image, scales)
        seconds = time.process_time() - started
        for text in arguments.tiles.split(","):
            tiles = Tiles(*map(int, text.split(":")))
            started = time.process_time()
            parts = classify_in_tiles(network.looker, ArrayPixels(pixels), tiles, scales)
            row = {
                "photo": name,
                "size": list(pixels.shape[:2]),
                "tile": tiles.tile,
                "overlap": tiles.overlap,
                "same_class": float((parts.labels == whole.labels).float().mean()),
                "confidence_difference": float((parts.confidence - whole.confidence).abs().mean()),
                "seconds_whole": seconds,
                "time_ratio": (time.process_time() - started) / seconds,
            }
            rows.append(row)
            print(row, flush=True)
    show(
        f"{arguments.network} at {', '.join(f'{scale:g}' for scale in sorted(scales))}: tiles against whole images",
        ["photo", "size", "tile", "overlap", "same class, %", "confidence differs by", "time ratio"],
        [
            [
                row["photo"],
                "x".join(map(str, row["size"])),
                row["tile"],
                row["overlap"],
                f"{100 * row['same_class']:.3f}",
                f"{row['confidence_difference']:.4f}",
                f"{row['time_ratio']:.2f}",
            ]
            for row in rows
        ],
    )
    save(arguments.name, {"network": arguments.network, "scales": sorted(scales), "threads": 1, "rows": rows})


if __name__ == "__main__":
    main()
