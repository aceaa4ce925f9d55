"""What a network costs: counted FLOPs, memory of its live tensors, and time as a ratio measured side by side."""

import statistics
import time
import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import FlopCounterMode

from polyscale.losses import Objective
from polyscale.models import ModelConfig, build_model
from polyscale.training import ExperimentConfig

__all__ = ["LiveMemory", "Traffic", "step_times", "training_flops"]


class LiveMemory(TorchDispatchMode):
    """Counts the bytes of all tensors that operations make while it is entered, as long as they live.

    On the meta device too, where nothing is computed. A device takes more, for its allocator's gaps and its kernels'
    workspace. What lived before is not counted.

    Attributes:
        peak: the most bytes that lived at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = self._live = 0
        self._storages: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        tree_map_only(torch.Tensor, self._count, result)
        return result

    def _count(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key not in self._storages:  # a view shares its storage
            self._storages.add(key)
            self._live += size
            self.peak = max(self.peak, self._live)
            weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._storages.discard(key)
        self._live -= size


class Traffic(TorchDispatchMode):
    """Counts the bytes that operations read and write while it is entered, each tensor once an operation.

    On the meta device too. Views move nothing. A cache may save some of it, and a kernel's own copies come on top.

    Attributes:
        num_bytes: read and written.
    """

    def __init__(self) -> None:
        super().__init__()
        self.num_bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            tree_map_only(torch.Tensor, self._count, (args, kwargs, result))
        return result

    def _count(self, tensor: torch.Tensor) -> None:
        self.num_bytes += tensor.numel() * tensor.element_size()


def training_flops(model: ModelConfig, crop: tuple[int, int], num_classes: int) -> int:
    """Multiply-adds times two of one training step on one crop (H, W), forward and backward."""
    # On the meta device nothing is computed: only convolutions and products are counted, and no loss has any.
    device = "meta"
    network = build_model(_from_scratch(model), num_classes).train().to(device)
    with FlopCounterMode(display=False) as counter:
        fused = network(torch.rand(2, 3, *crop, device=device), network.train_scales)
        outputs = [fused.logits, fused.aux, *(view.logits for view in fused.views.values())]
        torch.stack([output.sum() for output in outputs if output is not None]).sum().backward()
    return counter.get_total_flops() // 2


def step_times(recipes: dict[str, ExperimentConfig], num_classes: int, repeats: int = 9) -> dict[str, float]:
    """Median seconds of one training step of each recipe; the recipes take turns, so that noise meets all alike."""
    steps = {}
    for name, config in recipes.items():
        network = build_model(_from_scratch(config.model), num_classes).to(memory_format=torch.channels_last)
        loss = config.loss.model_copy(update={"class_weights": "none"})
        steps[name] = (config, network.train(), Objective(loss), torch.optim.AdamW(network.parameters(), 1e-4))
    times: dict[str, list[float]] = {name: [] for name in recipes}
    for _ in range(repeats + 2):
        for name, (config, network, objective, optimizer) in steps.items():
            size = config.augment.crop
            images = torch.rand(config.training.batch_size, 3, *size).contiguous(memory_format=torch.channels_last)
            # Blocks of one class, as in real labels: the boundary of the classes is short.
            blocks = torch.randint(0, num_classes, (len(images), -(-size[0] // 16), -(-size[1] // 16)))
            labels = blocks.repeat_interleave(16, 1).repeat_interleave(16, 2)[:, : size[0], : size[1]]
            start = time.perf_counter()
            objective(network(images, network.train_scales), labels)["total"].backward()
            optimizer.step()
            optimizer.zero_grad()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values[2:]) for name, values in times.items()}


def _from_scratch(model: ModelConfig) -> ModelConfig:
    return model.model_copy(update={"backbone": model.backbone.model_copy(update={"pretrained": False})})
