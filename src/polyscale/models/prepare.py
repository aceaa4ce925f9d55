"""A network made ready for use: quicker and smaller in memory, and no longer for training.

A batch norm in evaluation mode multiplies and adds, which the convolution before it can do with other weights. Which
convolution that is, a look at one small image tells: the norm reads what the convolution gave, and nothing else does.
So no list of architectures is needed, and a layer that does more to its weights than it says is left as it is.

TensorFlow pads a convolution of stride 2 at the right and bottom only, which PyTorch does by copying the map. A kernel
that is one larger, with zeros in its first row and column, reads the same pixels without a copy.
"""

import copy
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

from polyscale.models.segmenter import Segmenter

__all__ = ["EvenSame", "computes_bfloat16", "fold_batch_norms", "prepare_for_use"]

_Module = TypeVar("_Module", bound=nn.Module)

_PROBE_SIDE = 64


def prepare_for_use(model: _Module, channels_last: bool = True) -> _Module:
    """A copy of a network for prediction only: in evaluation mode, without gradients, batch norms folded.

    Results differ by rounding (about 1e-5 of the largest logit), so what must be equal to the last bit is not prepared.

    Args:
        model: images (N, 3, H, W), RGB in [0, 1], to anything.
        channels_last: keep the channels of a pixel side by side, in weights and maps.
    """
    prepared = _without_padding(fold_batch_norms(copy.deepcopy(model).eval().requires_grad_(False)))
    for module in prepared.modules():
        if isinstance(module, Segmenter):
            module.auxiliary = False  # auxiliary logits are for the loss
    return prepared.to(memory_format=torch.channels_last) if channels_last else prepared


def computes_bfloat16(device: torch.device | str) -> bool:
    """Whether a device multiplies bfloat16 itself: a CPU that does not is slower with it than with float32."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.is_available() and torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu":
        return True
    try:
        facts = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    except OSError:  # not Linux
        return False
    return not facts.isdisjoint({"avx512_bf16", "amx_bf16", "bf16"})


class EvenSame(nn.Module):
    """A depthwise convolution of stride 2 with TensorFlow's padding, without a copy where both sides are even."""

    kernel: Tensor

    def __init__(self, conv: Conv2dSame) -> None:
        super().__init__()
        self.conv = conv
        self.register_buffer("kernel", functional.pad(conv.weight, (1, 0, 1, 0)), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, h, w) to (N, C, ceil(h / 2), ceil(w / 2))."""
        if x.shape[-2] % 2 or x.shape[-1] % 2:
            padded: Tensor = self.conv(x)
            return padded
        margin = (self.conv.kernel_size[0] - 1) // 2
        return functional.conv2d(x, self.kernel, self.conv.bias, stride=2, padding=margin, groups=self.conv.groups)


def _without_padding(model: _Module) -> _Module:
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, Conv2dSame) and child.groups == child.in_channels and _is_plain(child):
                setattr(parent, name, EvenSame(child))
    return model


def _is_plain(conv: nn.Conv2d) -> bool:
    high, wide = conv.kernel_size
    return high == wide and high % 2 == 1 and high > 1 and conv.stride == (2, 2) and conv.dilation == (1, 1)


@torch.no_grad()
def fold_batch_norms(model: _Module) -> _Module:
    """Fold, in place, each batch norm that follows a convolution and nothing else; the network itself is returned.

    A network that cannot look at an image of 64 x 64 pixels is left as it is.

    Args:
        model: in evaluation mode.
    """
    parameter = next(model.parameters(), torch.zeros(()))
    probe = torch.zeros(
        1, getattr(model, "in_channels", 3), _PROBE_SIDE, _PROBE_SIDE, device=parameter.device, dtype=parameter.dtype
    )
    recorder = _Recorder(model)
    try:
        with recorder:
            model(probe)
    except (RuntimeError, ValueError, AssertionError):
        return model
    folded = {}
    for conv, norm in recorder.pairs():
        _fold(conv, norm)
        folded[norm] = _in_place(norm.act) if isinstance(norm, BatchNormAct2d) else nn.Identity()
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if child in folded:
                setattr(parent, name, folded[child])
    return model


def _in_place(activation: nn.Module) -> nn.Module:
    """The activation, writing over what it reads: nothing else reads the convolution before it."""
    if isinstance(activation, nn.ReLU | nn.ReLU6 | nn.SiLU | nn.Hardswish | nn.LeakyReLU):
        activation.inplace = True
    return activation


def _fold(conv: nn.Conv2d, norm: _BatchNorm) -> None:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    factor = (norm.running_var.double() + norm.eps).rsqrt()
    factor = factor if norm.weight is None else factor * norm.weight.double()
    shift = -norm.running_mean.double() if conv.bias is None else conv.bias.double() - norm.running_mean.double()
    shift = shift * factor if norm.bias is None else shift * factor + norm.bias.double()
    weight = conv.weight.double() * factor[:, None, None, None]
    conv.weight = nn.Parameter(weight.to(conv.weight.dtype), requires_grad=False)
    conv.bias = nn.Parameter(shift.to(conv.weight.dtype), requires_grad=False)


class _Recorder(TorchFunctionMode):
    """Watches a pass and notes which norm read what each convolution gave.

    Args:
        model: whose convolutions and norms count; others are functions without a module, or of kinds unknown here.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        convs = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
        owners = Counter(id(conv.weight) for conv in convs)
        self.convs = {id(conv.weight): conv for conv in convs if owners[id(conv.weight)] == 1}
        self.norms = {
            id(module.running_mean): module
            for module in model.modules()
            if type(module) in (nn.BatchNorm2d, nn.SyncBatchNorm, BatchNormAct2d) and not module.training
        }
        self.outputs: dict[int, tuple[nn.Conv2d, Tensor]] = {}  # with the tensor, so that no other gets its id
        self.readers: dict[int, list[nn.Module | None]] = {}
        self.calls: Counter[nn.Module] = Counter()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        norm = self.norms.get(id(args[1])) if func is functional.batch_norm and len(args) > 1 else None
        if norm is not None:
            self.calls[norm] += 1
        if func.__name__ not in ("__get__", "size", "dim"):
            for x in _tensors((args, kwargs)):
                if id(x) in self.outputs:
                    self.readers.setdefault(id(x), []).append(norm)
        result = func(*args, **kwargs)
        if func is functional.conv2d and len(args) > 1:
            conv = self.convs.get(id(args[1]))
            if conv is not None:
                self.outputs[id(result)] = conv, result
        return result

    def pairs(self) -> Iterator[tuple[nn.Conv2d, _BatchNorm]]:
        """Convolutions whose every result one norm alone read, which read nothing else."""
        partners: dict[nn.Conv2d, set[nn.Module | None]] = {}
        times = Counter(conv for conv, _ in self.outputs.values())
        for key, (conv, _) in self.outputs.items():
            readers = self.readers.get(key, [])
            partners.setdefault(conv, set()).add(readers[0] if len(readers) == 1 else None)
        for conv, (norm, *others) in partners.items():
            if isinstance(norm, _BatchNorm) and not others and times[conv] == self.calls[norm]:
                yield conv, norm


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
