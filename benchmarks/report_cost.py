"""What ``evaluate --report`` costs beyond ``evaluate --compare``: the recording, without the page.

    python benchmarks/report_cost.py camvid-lite0 CAMVID --images 24 --gallery 12

Both take turns on the same images, spread over the split val. Most of the cost of an image that is kept in full is its
files, so a gallery that holds most of the images is the dearest case.
"""

import argparse
import os
import tempfile
from pathlib import Path
from statistics import median

from record import save, show
from side_by_side import ratios  # first of all: one core is one core

from polyscale.data import Sample, SegmentationData, open_data  # isort: skip
from polyscale.evaluation import Recording, evaluate  # isort: skip
from polyscale.models import load_checkpoint  # isort: skip
from polyscale.models.finding import find_network  # isort: skip


class Some(SegmentationData):
    """Every k-th item of a data set."""

    def __init__(self, data: SegmentationData, number: int) -> None:
        self.label_space, self.data = data.label_space, data
        self.places = [k * len(data) // number for k in range(number)]
        self.items = [data.items[k] for k in self.places]

    def read(self, index: int) -> Sample:
        return self.data.read(self.places[index])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network")
    parser.add_argument("data")
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--gallery", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--out", type=Path, help="folder of the results")
    arguments = parser.parse_args()
    network = load_checkpoint(find_network(arguments.network))
    some = Some(open_data(arguments.data, "val", network.label_space), arguments.images)
    taken: dict[str, list[float]] = {"compare": [], "report": []}
    for _ in range(arguments.repeats):
        for name, seconds in taken.items():
            with tempfile.TemporaryDirectory() as folder:
                recording = Recording(Path(folder) / "out", arguments.gallery) if name == "report" else None
                before = os.times().user
                evaluate(network.model, some, compare=True, label_space=network.label_space, recording=recording)
                seconds.append(os.times().user - before)
    measured = {name: {"user_seconds": median(seconds)} for name, seconds in taken.items()}
    relative = ratios(measured, "compare")
    show(
        f"{arguments.images} images, {arguments.gallery} kept in full: medians",
        ["", "user s", "over --compare"],
        [[n, f"{row['user_seconds']:.2f}", f"{relative[n]['user_seconds']:.3f}"] for n, row in measured.items()],
    )
    facts = {"images": arguments.images, "gallery": arguments.gallery, "repeats": arguments.repeats}
    save("report_cost", {**facts, "taken": taken, "over_compare": relative}, arguments.out)


if __name__ == "__main__":
    main()
