"""What a size costs that the network's strides do not divide, with the image padded to what they do and without.

    python benchmarks/odd_sizes.py CHECKPOINT DATA[:SPLIT]

Every n-th image is cut at the right and bottom to sides that are some pixels above a multiple of 64, and scored on the
pixels up to that multiple, so that all sizes are scored on the same pixels.
"""

import argparse
from pathlib import Path

import torch
from record import save, show

import polyscale
from polyscale.data import open_data
from polyscale.inference.predictor import Predictor
from polyscale.metrics import SegmentationScores

BEYOND = (0, 1, 2, 4, 8, 16, 31)
SCALE_SETS = ((1.0,), (0.5, 1.0, 2.0))


def score(network: Predictor, samples: list, beyond: int, scales: tuple[float, ...]) -> float:
    """mIoU in percent of images that are ``beyond`` pixels larger in height and width than what is scored."""
    scores = SegmentationScores(network.label_space, boundary=False, calibration=False)
    for sample in samples:
        height, width = (side // 64 * 64 for side in (size - max(BEYOND) for size in sample.labels.shape))
        found = network.predict(sample.image[: height + beyond, : width + beyond], scales).labels
        scores.update(torch.from_numpy(found[:height, :width]), torch.from_numpy(sample.labels[:height, :width].copy()))
    return 100 * (scores.compute().mean_iou or 0.0)


def main() -> None:
    """Score, print, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("data", help="a data set, DATA:SPLIT")
    parser.add_argument("--every", type=int, default=12, help="of the images, every n-th")
    arguments = parser.parse_args()
    network = polyscale.load(arguments.checkpoint)
    data = open_data(arguments.data)
    samples = [data.read(index) for index in range(0, len(data), arguments.every)]
    segmenter = network.model.segmenter
    multiples = {"as it is": 1, "padded": segmenter.multiple}
    results, rows = {}, []
    for scales in SCALE_SETS:
        for beyond in BEYOND:
            scored = {}
            for name, multiple in multiples.items():
                segmenter.multiple = multiple
                scored[name] = score(network, samples, beyond, scales)
            label = ",".join(f"{scale:g}" for scale in scales)
            results[f"{label}; {beyond} pixels beyond"] = scored
            rows.append([label, beyond, *(f"{value:.2f}" for value in scored.values())])
    show(f"mIoU of {len(samples)} images", ["scales", "pixels beyond a multiple of 64", *multiples], rows)
    facts = {"checkpoint": arguments.checkpoint.parent.name, "images": len(samples), "every": arguments.every}
    save("odd-sizes", {**facts, "miou_percent": results})


if __name__ == "__main__":
    main()
