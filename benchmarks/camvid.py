"""Scores of a CamVid checkpoint on the official val part and on the sequence 0006R0, every way of combining scales.

    polyscale train configs/camvid/lite0.yaml configs/camvid/holdout.yaml data.train.root=CAMVID data.val.root=CAMVID
    python benchmarks/camvid.py runs/camvid-holdout/last.safetensors CAMVID

0006R0 says something only of a network that was trained without it (configs/camvid/holdout.yaml); pass
--trained-on-all otherwise. The official val part is one clip of seven seconds from the middle of a training sequence:
it flatters.
"""

import argparse
import json
import re
from pathlib import Path

from record import save, show

import polyscale
from polyscale.data.camvid import CamVidConfig
from polyscale.data.open import open_data
from polyscale.evaluation import evaluate
from polyscale.models import read_metadata

SCALE_SETS = ((0.5, 1.0, 2.0), (0.5, 1.0), (0.25, 0.5, 1.0, 2.0))


def main() -> None:
    """Evaluate, print, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("camvid", type=Path, help="folder with train, trainannot, val, valannot")
    parser.add_argument("--trained-on-all", action="store_true", help="skip 0006R0: the network has seen it")
    arguments = parser.parse_args()
    network = polyscale.load(arguments.checkpoint)
    parts = {"official val (101 frames of 0016E5)": CamVidConfig(root=arguments.camvid, split="val")}
    if not arguments.trained_on_all:
        held_out = CamVidConfig(root=arguments.camvid, split="train", include=("0006R0*",))
        parts["0006R0, held out from train (101 frames)"] = held_out
    results, rows = {}, []
    for part, config in parts.items():
        data = open_data(config)
        for number, scales in enumerate(SCALE_SETS):
            first = number == 0
            evaluation = evaluate(network.model, data, scales, compare=first, boundary=first, calibration=first)
            label = ",".join(f"{scale:g}" for scale in scales)
            results[f"{part}; scales {label}"] = evaluation.to_json()
            wanted = ("scale ", "average", "constant", "fused")
            for name, scores in evaluation.rows.items():
                if name.startswith(wanted):
                    title = name if name.startswith("scale ") else f"{name} ({label})"
                    rows.append(
                        [part, title, *(f"{100 * (x or 0):.2f}" for x in (scores.mean_iou, scores.pixel_accuracy))]
                    )
    show("CamVid, 11 classes, 480 x 360, ImageNet-pretrained backbone", ["part", "row", "mIoU", "pixel accuracy"], rows)
    metadata = read_metadata(arguments.checkpoint)
    run = arguments.checkpoint.parent
    log = (
        [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
        if (run / "log.jsonl").exists()
        else []
    )
    save(
        "camvid",
        {
            "checkpoint": metadata.info,
            "model": metadata.config.model_dump(mode="json"),
            "training_environment": json.loads((run / "environment.json").read_text()),
            # Whoever reads the record has other folders.
            "training_config": re.sub(r"root: .*", "root: CAMVID", (run / "config.yaml").read_text()),
            "validations": [line["validation"] for line in log if "validation" in line],
            "results": results,
        },
    )


if __name__ == "__main__":
    main()
