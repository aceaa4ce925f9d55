"""Sums and counts over all processes, so that many processes train like one.

Distributed data parallelism averages the processes' *gradients*. If each process divided by its own number of valid
pixels, a pixel would count more where few others are valid. Here the divisor is the count over all processes divided by
their number: the average of the gradients, and of the losses, is that of one process with the whole batch.

These functions communicate where there is more than one process. So every process has to compute the same losses in the
same order.
"""

from torch import Tensor, distributed

__all__ = ["global_count", "global_sum", "num_processes"]


def num_processes() -> int:
    """The number of processes that train together, 1 without a process group."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def global_count(count: Tensor, extra: float = 0.0) -> Tensor:
    """The divisor of a local sum: (sum of ``count`` over processes + ``extra``) / number of processes.

    Args:
        count: any shape; what this process counted. No gradient passes through it.
        extra: a constant added once, whatever the number of processes (the 1 in BCE's pixels + 1).

    Returns:
        Same shape; ``count + extra`` in a single process.

    Example:
        >>> import torch
        >>> float(global_count(torch.tensor(7.0), extra=1))
        8.0
    """
    processes = num_processes()
    count = count.detach()
    if processes > 1:
        count = count.clone()
        distributed.all_reduce(count)
    return (count + extra) / processes


def global_sum(x: Tensor) -> Tensor:
    """Sum of ``x`` over processes, differentiable: for losses that are not linear in their sums, such as Dice.

    The gradient is multiplied by the number of processes, which the averaging of gradients divides out again. The
    backward pass sends nothing.

    Returns:
        Same shape as ``x``; ``x`` itself in a single process.
    """
    processes = num_processes()
    if processes == 1:
        return x
    total = x.detach().clone()
    distributed.all_reduce(total)
    return total + processes * (x - x.detach())
