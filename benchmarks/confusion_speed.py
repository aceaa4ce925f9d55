"""The confusion matrix of two maps beside the usual ``numpy.bincount``.

    python benchmarks/confusion_speed.py

numpy gets maps of int64, as its formula needs them, and Polyscale bytes, as label files and its predictions hold them.
In blocks the labels are squares of 32 pixels, and the prediction is the labels moved by some pixels with 3 % of it
random, so that neighbours are mostly equal as in photographs. In noise every pixel is random. In both, a sixteenth is
ignored.
"""

import argparse
from functools import partial
from pathlib import Path

from record import save, show
from side_by_side import ratios, times

import numpy as np  # isort: skip
import torch  # isort: skip

from polyscale.labels import IGNORE
from polyscale.metrics import confusion_matrix


def plain_confusion_matrix(prediction: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """The usual formula."""
    counted = (labels >= 0) & (labels < num_classes)
    pairs = num_classes * labels[counted] + prediction[counted]
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def maps(kind: str, size: tuple[int, int], num_classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Prediction and labels, uint8."""
    generator = torch.Generator().manual_seed(0)
    height, width = size
    noise = torch.randint(0, num_classes, size, generator=generator)
    if kind == "noise":
        labels, prediction = torch.randint(0, num_classes, size, generator=generator), noise
    else:
        blocks = torch.randint(0, num_classes, (-(-height // 32), -(-width // 32)), generator=generator)
        labels = blocks.repeat_interleave(32, 0).repeat_interleave(32, 1)[:height, :width].clone()
        wrong = torch.rand(size, generator=generator) < 0.03
        prediction = torch.where(wrong, noise, torch.roll(labels, (3, 5), (0, 1)))
    labels[: height // 16] = IGNORE
    return prediction.byte(), labels.byte()


def main() -> None:
    """Measure, print, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs=2, default=(1024, 2048), metavar=("H", "W"))
    parser.add_argument("--classes", type=int, default=19)
    parser.add_argument("--repeats", type=int, default=51)
    parser.add_argument("--out", type=Path, default=None, help="folder of the result; by default benchmarks/results")
    arguments = parser.parse_args()
    results, rows = {}, []
    for kind in ("blocks", "noise"):
        prediction, labels = maps(kind, tuple(arguments.size), arguments.classes)
        wide = [x.numpy().astype(np.int64) for x in (prediction, labels)]
        works = {
            "numpy": partial(plain_confusion_matrix, *wide, arguments.classes),
            "Polyscale": partial(confusion_matrix, prediction, labels, arguments.classes),
        }
        if not np.array_equal(works["numpy"](), works["Polyscale"]().numpy()):
            raise SystemExit("the two matrices differ")
        measured = times(works, arguments.repeats)
        relative = ratios(measured, "numpy")
        results[kind] = {"measured": measured, "over_numpy": relative}
        for name, row in measured.items():
            cells = [f"{1000 * row[key]:.1f} ({relative[name][key]:.2f})" for key in ("seconds", "processor_seconds")]
            rows.append([kind, name, *cells])
    height, width = arguments.size
    title = f"confusion matrix, {height} x {width}, {arguments.classes} classes: medians (over numpy)"
    show(title, ["maps", "", "ms", "processor ms"], rows)
    facts = {"size": list(arguments.size), "classes": arguments.classes, "repeats": arguments.repeats}
    save("confusion_speed", {**facts, "results": results}, arguments.out)


if __name__ == "__main__":
    main()
