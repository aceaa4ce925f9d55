"""A data set drawn on the fly and networks whose answers are known.

Run as a program it is one process of a distributed evaluation.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch import distributed, nn

from polyscale.baselines import AveragePooling, ExplicitMultiScale, SingleScale
from polyscale.data.items import Item, Sample
from polyscale.evaluation import evaluate
from polyscale.labels import IGNORE, LabelSpace
from polyscale.multiscale import HierarchicalMultiScale, View

SPACE = LabelSpace.model_validate(
    {"name": "toys", "classes": [{"name": name, "color": (0, 0, 0)} for name in ("road", "sky", "pole", "train")]}
)


class Toys:
    """Images whose red, green and blue are noisy maps of the classes road, sky and pole; there is no train."""

    label_space = SPACE

    def __init__(self, sizes, noise=0.6, masks=True):
        self.sizes, self.noise, self.masks = sizes, noise, masks
        self.items = [
            Item(f"street/{k}", Path(f"{k}.png"), Path(f"{k}_mask.png") if masks else None) for k in range(len(sizes))
        ]

    def __len__(self):
        return len(self.sizes)

    def read(self, index):
        rng = np.random.default_rng(index)
        height, width = self.sizes[index]
        coarse = rng.integers(0, 3, (-(-height // 6), -(-width // 6)))
        labels = np.kron(coarse, np.ones((6, 6)))[:height, :width].astype(np.uint8)
        image = np.eye(3)[labels] + self.noise * rng.standard_normal((height, width, 3))
        image = (255 * (0.2 + 0.5 * image).clip(0, 1)).astype(np.uint8)
        labels[:, :2] = IGNORE
        return Sample(self.items[index].name, image, labels if self.masks else None)


class Pixels(nn.Module):
    """Logits and attention from the colours of a few pixels by fixed random weights, on a grid of stride 2.

    The weights are not symmetric, so a mirrored image gives another answer.
    """

    def __init__(self, num_classes=4, seed=0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.logits = nn.Conv2d(3, num_classes, 3, stride=2, padding=1, bias=False)
        self.attention = nn.Conv2d(3, 1, 1, bias=False)
        with torch.no_grad():
            self.logits.weight.copy_(0.4 * torch.randn(num_classes, 3, 3, 3, generator=generator))
            for k in range(min(3, num_classes)):
                self.logits.weight[k, k] += 0.7
            self.attention.weight.copy_(torch.tensor([2.0, -2.0, 0.5]).reshape(1, 3, 1, 1))
        self.looks = 0

    def forward(self, images):
        self.looks += 1
        logits = self.logits(images)
        return View(logits, self.attention(images[..., ::2, ::2]).sigmoid(), None, logits)


def network(method, num_classes=4):
    """A network of each method around the same segmenter."""
    segmenter = Pixels(num_classes)
    if method == "explicit":
        head = nn.Conv2d(3 * num_classes, 3, 1, bias=False)
        with torch.no_grad():
            head.weight.copy_(torch.randn(head.weight.shape, generator=torch.Generator().manual_seed(1)))
        model = ExplicitMultiScale(segmenter, head, (0.5, 1, 2))
    else:
        kinds = {"hierarchical": HierarchicalMultiScale, "single": SingleScale, "average": AveragePooling}
        model = kinds[method](segmenter)
    return model


def main(rank, world, store, output):
    """Evaluate as one of several processes and write the result."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    done = []
    sizes = [(23, 31), (20, 40), (31, 17), (24, 24), (19, 37)]
    result = evaluate(
        network("hierarchical"),
        Toys(sizes),
        (0.5, 1, 2),
        flip=True,
        compare=True,
        progress=lambda *step: done.append(step),
    )
    # With one image a process has nothing to do, and must still take part.
    lonely = evaluate(network("single"), Toys(sizes[:1]))
    Path(output).write_text(json.dumps({"full": result.to_json(), "lonely": lonely.to_json(), "progress": done}))
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4])
