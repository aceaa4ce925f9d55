"""What ``evaluate`` costs beyond its network, with ``--compare`` and ``--report`` (the recording, without the page).

    python benchmarks/report_cost.py camvid-lite0 CAMVID --images 24 --gallery 12

All take turns on the same images, spread over the split val. "network" reads the images, looks at them at all scales
and fuses on the grid. Most of the cost of an image that is kept in full is its files, so a gallery that holds most of
the images is the dearest case.
"""

import argparse
import os
import tempfile
from pathlib import Path
from statistics import median

from record import save, show
from side_by_side import ratios  # first of all: one core is one core

import torch  # isort: skip

from polyscale.data import Sample, SegmentationData, open_data  # isort: skip
from polyscale.evaluation import Recording, evaluate  # isort: skip
from polyscale.models import load_checkpoint  # isort: skip
from polyscale.models.finding import find_network  # isort: skip
from polyscale.multiscale import MultiScale  # isort: skip


class Some(SegmentationData):
    """Every k-th item of a data set."""

    def __init__(self, data: SegmentationData, number: int) -> None:
        self.label_space, self.data = data.label_space, data
        self.places = [k * len(data) // number for k in range(number)]
        self.items = [data.items[k] for k in self.places]

    def read(self, index: int) -> Sample:
        return self.data.read(self.places[index])


@torch.inference_mode()
def look(model: MultiScale, data: SegmentationData) -> None:
    """The network's own work."""
    for index in range(len(data)):
        image = torch.from_numpy(data.read(index).image).permute(2, 0, 1)[None].float() / 255
        model.maps(image, model.choose(None))


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
    model = network.model.eval()
    taken: dict[str, list[float]] = {"network": [], "evaluate": [], "compare": [], "report": []}
    for _ in range(arguments.repeats):
        for name, seconds in taken.items():
            with tempfile.TemporaryDirectory() as folder:
                recording = Recording(Path(folder) / "out", arguments.gallery) if name == "report" else None
                before = os.times().user
                if name == "network":
                    look(model, some)
                else:
                    compare = name != "evaluate"
                    evaluate(model, some, compare=compare, label_space=network.label_space, recording=recording)
                seconds.append(os.times().user - before)
    measured = {name: {"user_seconds": median(seconds)} for name, seconds in taken.items()}
    relative = {name: ratios(measured, name) for name in ("network", "compare")}
    show(
        f"{arguments.images} images, {arguments.gallery} kept in full: medians",
        ["", "user s", "over the network", "over --compare"],
        [
            [name, f"{row['user_seconds']:.2f}", *(f"{one[name]['user_seconds']:.3f}" for one in relative.values())]
            for name, row in measured.items()
        ],
    )
    facts = {"images": arguments.images, "gallery": arguments.gallery, "repeats": arguments.repeats}
    save("report_cost", {**facts, "taken": taken, "relative": relative}, arguments.out)


if __name__ == "__main__":
    main()
