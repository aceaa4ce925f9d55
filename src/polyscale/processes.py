"""Several processes on one job: who is who, sums over all of them, and waiting until all are there."""

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta

import torch
from torch import Tensor, distributed, nn

from polyscale.errors import UserError

__all__ = [
    "joined",
    "largest_over_ranks",
    "local_device",
    "rank_and_world",
    "share_buffers",
    "share_weights",
    "sum_over_ranks",
    "wait_for_all",
]


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
    _share(model.buffers())


def share_weights(model: nn.Module) -> None:
    """Give every process the first one's parameters and buffers, in place."""
    _share([*(parameter.data for parameter in model.parameters()), *model.buffers()])


def _share(tensors: Iterable[Tensor]) -> None:
    if rank_and_world()[1] > 1:
        for tensor in tensors:
            distributed.broadcast(tensor, src=0)


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


@contextlib.contextmanager
def joined() -> Iterator[tuple[int, int]]:
    """Join the processes that ``torchrun`` started; yields (this one's number, how many there are)."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1 or distributed.is_initialized():
        yield (distributed.get_rank(), distributed.get_world_size()) if distributed.is_initialized() else (0, 1)
        return
    distributed.init_process_group("gloo", timeout=timedelta(days=30))
    try:
        yield distributed.get_rank(), world
    finally:
        distributed.destroy_process_group()


def wait_for_all() -> None:
    """Return when every process has called this.

    Raises:
        UserError: one has ended instead.
    """
    if distributed.is_available() and distributed.is_initialized():
        try:
            distributed.barrier()
        except RuntimeError:
            raise UserError("another process of this run has ended; its own message says why") from None


def local_device(device: str | None) -> str | None:
    """The device of this process: the GPU of its number on the machine, unless one is asked for."""
    if device in (None, "cuda") and torch.cuda.is_available() and "LOCAL_RANK" in os.environ:
        return f"cuda:{int(os.environ['LOCAL_RANK']) % torch.cuda.device_count()}"
    return device
