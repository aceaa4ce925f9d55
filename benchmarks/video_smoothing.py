"""What temporal smoothing does to flicker, and what it costs in mIoU, on labelled frames of one clip.

Beside the smoothing of ``polyscale video``, which forgets where the image changes, stands the plain exponential
average.
"""

import argparse
from pathlib import Path

import torch
from record import save, show

import polyscale
from polyscale.metrics import SegmentationScores
from polyscale.video.smoothing import Flicker, Smoothing, change

SHARES = (0.5, 0.7, 0.8, 0.9)


@torch.inference_mode()
def main() -> None:
    """Measure, print, record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint")
    parser.add_argument("data", help="labelled frames that follow one another, such as CamVid's val")
    parser.add_argument("--split", default="val")
    parser.add_argument("--scales", default="1")
    parser.add_argument("--out", type=Path, default=None, help="folder of the result; by default benchmarks/results")
    arguments = parser.parse_args()
    scales = [float(scale) for scale in arguments.scales.split(",")]
    predictor = polyscale.load(arguments.checkpoint)
    space = predictor.label_space
    data = polyscale.open_data(arguments.data, arguments.split, space)

    kinds = [("none", 0.0)] + [(kind, share) for kind in ("where still", "plain") for share in SHARES]
    smoothings = [Smoothing(share) for _, share in kinds]
    flickers = [Flicker() for _ in kinds]
    scores = [SegmentationScores(space, boundary=False, calibration=False) for _ in kinds]
    before = None
    for index in range(len(data)):
        sample = data.read(index)
        image = torch.from_numpy(sample.image).permute(2, 0, 1)[None].float() / 255
        truth = torch.from_numpy(sample.labels)
        probabilities = predictor.looker.look(image, scales).probabilities
        changed = None if before is None else change(image, before)
        before = image
        for (kind, _), smoothing, flicker, score in zip(kinds, smoothings, flickers, scores, strict=True):
            told = torch.zeros_like(changed) if kind == "plain" and changed is not None else changed
            labels = smoothing(probabilities, told)[0].argmax(0)
            flicker.update(labels, changed)
            score.update(labels.byte(), truth)
        print(index + 1, len(data), flush=True)
    rows = [
        {"kind": kind, "share": share, "flicker": flicker.share, "mean_iou": score.compute().mean_iou}
        for (kind, share), flicker, score in zip(kinds, flickers, scores, strict=True)
    ]
    shown = [[r["kind"], r["share"], f"{r['flicker']:.2%}", f"{100 * r['mean_iou']:.2f}"] for r in rows]
    show(f"smoothing, {len(data)} frames", ["average", "share of the past", "flicker", "mIoU"], shown)
    save("video_smoothing", {"scales": scales, "frames": len(data), "rows": rows}, arguments.out)


if __name__ == "__main__":
    main()
