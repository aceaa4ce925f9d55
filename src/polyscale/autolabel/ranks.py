"""Several processes on one output folder: who is who, and when all are there.

Unusual here: processes exchange nothing but the news that they have arrived; results go through the folder, which all
must see. They wait for each other on the CPU and for as long as it takes: a share of a million images may take hours
longer than another, and the usual limit of half an hour would end the run.
"""

import contextlib
import os
from collections.abc import Iterator
from datetime import timedelta

from torch import distributed

from polyscale.config import UserError

__all__ = ["joined", "local_device", "wait_for_all"]


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
    import torch

    if device in (None, "cuda") and torch.cuda.is_available() and "LOCAL_RANK" in os.environ:
        return f"cuda:{int(os.environ['LOCAL_RANK']) % torch.cuda.device_count()}"
    return device
