"""Sharing an evaluation out over processes: every image is scored once, by one of them, and sums are added as integers.

Unusual here: no sampler. A rank takes every world-size-th image; none is padded or dropped, ranks may have none, and
the sums are bit-identical to those of one process.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, distributed, nn

__all__ = ["largest_over_ranks", "rank_and_world", "share_buffers", "sum_over_ranks"]


def rank_and_world() -> tuple[int, int]:
    """This process's number and the number of processes; (0, 1) without ``torch.distributed``."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def share_buffers(model: nn.Module) -> None:
    """Give every process the first one's buffers, in place.

    During training the statistics of batch norms that are not synchronised differ between processes; the first one's
    are those that a checkpoint stores.
    """
    if rank_and_world()[1] == 1:
        return
    for buffer in model.buffers():
        distributed.broadcast(buffer, src=0)


def sum_over_ranks(tensors: Sequence[Tensor], device: torch.device) -> None:
    """Add int64 tensors over all processes, in place, in one exchange.

    Args:
        tensors: the same shapes in every process, on the CPU.
        device: where the exchange takes place if the process group cannot do it on the CPU (NCCL).
    """
    if rank_and_world()[1] == 1:
        return
    flat = torch.cat([tensor.flatten() for tensor in tensors]).to(_exchange(device))
    distributed.all_reduce(flat)
    totals = torch.split_with_sizes(flat.cpu(), [tensor.numel() for tensor in tensors])
    for tensor, total in zip(tensors, totals, strict=True):
        tensor.copy_(total.view_as(tensor))


def largest_over_ranks(values: Sequence[int], device: torch.device) -> list[int]:
    """The largest of each number over all processes."""
    if rank_and_world()[1] == 1:
        return list(values)
    flat = torch.tensor(values, dtype=torch.int64, device=_exchange(device))
    distributed.all_reduce(flat, op=distributed.ReduceOp.MAX)
    return [int(value) for value in flat.tolist()]


def _exchange(device: torch.device) -> torch.device:
    return torch.device("cpu") if "gloo" in distributed.get_backend() else device
