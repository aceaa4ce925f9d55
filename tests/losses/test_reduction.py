"""Two processes train like one: this file is also the program that each of the two runs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import distributed, nn

from polyscale.losses import (
    LossConfig,
    Objective,
    bce,
    cross_entropy,
    dice,
    focal,
    global_count,
    global_sum,
    lovasz_softmax,
    region_mutual_information,
    rmi_loss,
)
from polyscale.multiscale import Fused, View

WEIGHTS = torch.tensor([0.5, 1.0, 4.0])


def pixel_weights(labels):
    return 0.25 + 0.5 * (labels == 1) + 0.1 * torch.arange(labels.shape[2])


def objective(logits, labels):
    config = LossConfig(main=[{"loss": "rmi"}, {"loss": "dice", "weight": 0.5}], aux="cross_entropy")
    half = nn.functional.avg_pool2d(logits, 2)
    return Objective(config)(Fused(logits, 2 * logits, {1.0: View(logits), 0.5: View(half)}), labels)["total"]


LOSSES = {
    "cross_entropy": cross_entropy,
    "weighted": lambda z, y: cross_entropy(z, y, class_weights=WEIGHTS, label_smoothing=0.1),
    "hard examples": lambda z, y: cross_entropy(z, y, ohem_threshold=0.4, ohem_fraction=0.0),
    "bce": bce,
    "rmi": rmi_loss,
    "information": region_mutual_information,
    "dice": dice,
    "focal": focal,
    "lovasz": lovasz_softmax,
    "objective": objective,
    # Weights that each process can tell from its own labels.
    "weighted pixels": lambda z, y: cross_entropy(z, y, weights=pixel_weights(y), class_weights=WEIGHTS),
    "weighted bce": lambda z, y: bce(z, y, weights=pixel_weights(y)),
    "weighted dice": lambda z, y: dice(z, y, weights=pixel_weights(y)),
    "weighted focal": lambda z, y: focal(z, y, weights=pixel_weights(y), class_weights=WEIGHTS),
    "weighted lovasz": lambda z, y: lovasz_softmax(z, y, weights=pixel_weights(y)),
    "weighted images": lambda z, y: rmi_loss(z, y, weights=(y == 1).sum((1, 2)) / 50),
}


def batch():
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(4, 3, 16, 16, generator=generator)
    labels = torch.randint(0, 3, (4, 16, 16), generator=generator)
    # The processes see very different numbers of valid pixels: that is the case which plain averaging gets wrong.
    labels[:2][torch.rand(2, 16, 16, generator=generator) < 0.9] = 255
    return images, labels


def network():
    torch.manual_seed(0)
    return nn.Conv2d(3, 3, 3, padding=1)


def train(images, labels):
    """Value and weight gradient of each loss."""
    results = {}
    for name, loss in LOSSES.items():
        model = network()
        value = loss(model(images), labels)
        value.backward()
        results[name] = (value.detach(), model.weight.grad)
    return results


def process(rank, folder):
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    images, labels = (x[2 * rank : 2 * rank + 2] for x in batch())
    results = train(images, labels)
    # The average of gradients is what DistributedDataParallel takes; its import would take longer than all the rest.
    for tensor in (x for pair in results.values() for x in pair):
        distributed.all_reduce(tensor)
        tensor /= 2
    # Images are counted too, so an uneven last batch weighs by its images.
    uneven = global_count(torch.tensor(1.0 + 2 * rank))
    if rank == 0:
        torch.save({"results": results, "uneven": uneven}, f"{folder}/results.pt")
    distributed.barrier()
    distributed.destroy_process_group()


def run_two_processes(folder):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", str(Path(__file__)), str(folder)]
    running = [
        subprocess.Popen([*command, str(rank)], env=environment, stderr=subprocess.PIPE, text=True) for rank in (0, 1)
    ]
    try:
        errors = [each.communicate(timeout=300)[1] for each in running]
    finally:
        for each in running:
            each.kill()
    assert [each.returncode for each in running] == [0, 0], errors
    return torch.load(folder / "results.pt")


# One test for all losses: starting the processes takes longer than what they compute.
@pytest.mark.slow
def test_two_processes_equal_one_with_the_whole_batch(tmp_path):
    stored = run_two_processes(tmp_path)
    assert stored["uneven"].item() == 2.0
    for name, (value, gradient) in train(*batch()).items():
        of_two, gradient_of_two = stored["results"][name]
        torch.testing.assert_close(of_two, value, rtol=1e-5, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")
        torch.testing.assert_close(
            gradient_of_two, gradient, rtol=1e-4, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_plain_averaging_would_differ():
    images, labels = batch()
    halves = [train(images[i : i + 2], labels[i : i + 2])["cross_entropy"] for i in (0, 2)]
    mean = sum(gradient for _, gradient in halves) / 2
    assert (mean - train(images, labels)["cross_entropy"][1]).abs().max() > 1e-3


def test_one_process_sends_nothing():
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    assert global_sum(x) is x
    assert global_count(x.detach(), extra=1).tolist() == [2.0, 3.0]
    assert not global_count(x).requires_grad


if __name__ == "__main__":
    process(int(sys.argv[2]), sys.argv[1])
