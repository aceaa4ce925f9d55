"""Adaptive looking: mIoU against time, from the coarser scales alone to all scales everywhere.

    python benchmarks/adaptive.py camvid-lite0 FOLDER_OF_CAMVID
    python benchmarks/adaptive.py DEMO_RUN DEMO_RUN/../data

Times are whole: from the pixels in memory to classes, confidence and weights at the image's size. The variants take
turns image by image. They are the processor's, which other work on the machine touches less than the clock.
"""

import argparse
import os
import time

# As the polyscale command does; both are read when torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["THP_MEM_ALLOC_ENABLE"] = "1"

import torch
from record import save, show

from polyscale.data import list_splits, open_data
from polyscale.looker import Looker
from polyscale.memory import keep_freed_memory
from polyscale.metrics import SegmentationScores
from polyscale.models import load_checkpoint

SURE = (0.6, 0.7, 0.8, 0.9)


def main() -> None:
    """Measure, print, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", help="a checkpoint, a run's folder or a name")
    parser.add_argument("data", help="a data set; its split val where it has one")
    parser.add_argument("--every", type=int, default=1, help="of the images, every n-th")
    parser.add_argument("--sure", type=float, nargs="*", default=SURE)
    parser.add_argument("--name", default="", help="of the result: adaptive-NAME-DATE.json")
    arguments = parser.parse_args()
    keep_freed_memory()
    checkpoint = load_checkpoint(arguments.network)
    data = open_data(arguments.data, "val" if "val" in list_splits(arguments.data) else None, checkpoint.label_space)
    plain = Looker(checkpoint.model)
    scales = plain.choose()
    variants = {
        "1": (plain, (1.0,)),
        ",".join(f"{scale:g}" for scale in sorted(scales[1:])): (plain, scales[1:]),
        **{f"adaptive {sure:g}": (Looker(checkpoint.model, adaptive=sure), scales) for sure in arguments.sure},
        ",".join(f"{scale:g}" for scale in sorted(scales)): (plain, scales),
    }
    scores = {name: SegmentationScores(checkpoint.label_space, boundary=False, calibration=False) for name in variants}
    seconds = dict.fromkeys(variants, (0.0, 0.0))
    finest: dict[str, list[float]] = {name: [] for name in variants}
    indices = range(0, len(data), arguments.every)
    for number, index in enumerate((indices[0], *indices)):
        sample = data.read(index)
        image = torch.from_numpy(sample.image.copy()).permute(2, 0, 1)[None].float() / 255
        for name, (looker, chosen) in variants.items():
            clock, processor = time.perf_counter(), time.process_time()
            found = looker.classify(image, chosen)
            taken = time.perf_counter() - clock, time.process_time() - processor
            if number:  # the first one warms up
                seconds[name] = (seconds[name][0] + taken[0], seconds[name][1] + taken[1])
                scores[name].update(found.labels[0], torch.from_numpy(sample.labels.copy()))
                finest[name].append(float((found.weights[chosen[0]] > 0).float().mean()))
    results, rows = {}, []
    whole = list(variants)[-1]
    for name in variants:
        miou = 100 * (scores[name].compute().mean_iou or 0.0)
        clock, processor = (1000 * total / len(indices) for total in seconds[name])
        share = processor * len(indices) / 1000 / seconds[whole][1]
        shown = sum(finest[name]) / len(finest[name]) if name.startswith("adaptive") else None
        results[name] = {"miou_percent": miou, "ms": clock, "processor_ms": processor, "time_over_all_scales": share}
        results[name] |= {} if shown is None else {"finest_scale_used": shown}
        seen = "" if shown is None else f"{100 * shown:.0f} %"
        rows.append([name, f"{miou:.2f}", seen, f"{clock:.0f}", f"{processor:.0f}", f"{share:.2f}"])
    columns = ["scales", "mIoU", "finest used in", "ms", "processor ms", "of all scales"]
    show(f"{len(indices)} images of {data.label_space.name}", columns, rows)
    facts = {"network": arguments.network.rsplit("/", 1)[-1], "images": len(indices), "every": arguments.every}
    save("-".join(filter(None, ("adaptive", arguments.name))), {**facts, "variants": results})


if __name__ == "__main__":
    main()
