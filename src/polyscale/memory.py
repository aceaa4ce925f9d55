"""Memory kept between the layers of a network.

By default glibc gives a block of more than 32 MiB back to the kernel when it is freed, and each layer of a network on
the CPU frees some. The next layer asks for as much, and the kernel hands it out in pages of 4 KiB, each zeroed at its
first use: a look at an image of 1024 x 2048 with a small network took 720,000 page faults, and as long in the kernel as
in the network. Kept blocks are used again instead, and PyTorch is told to ask for pages of 2 MiB. Results are equal to
the last bit.

The price is memory: what the process needed at its peak stays with it until it ends, and the peak is higher, as free
blocks between used ones do not always fit. ``docs/explanation/performance.md`` has the measurements.

The setting belongs to the process, so only the ``polyscale`` command makes it, never ``import polyscale``. Processes
that load images are forked, and inherit it.
"""

import ctypes
import os
import sys
from pathlib import Path

__all__ = ["available_memory", "keep_freed_memory"]

# The numbers of malloc.h, which are part of glibc's binary interface.
_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_MAX = -4

_NEVER = 2**31 - 1
_STEP = 64 * 2**20
"""Bytes by which the heap grows; only pages that are used take memory."""


def keep_freed_memory() -> bool:
    """Let this process keep the memory that it frees, and use it again; to be called before torch is imported.

    Only on Linux with glibc. ``POLYSCALE_MALLOC=system`` leaves the allocator as it is, and so does any setting of it
    in the environment (``MALLOC_…``, ``GLIBC_TUNABLES``), which somebody chose.

    Returns:
        Whether it was set.
    """
    if not sys.platform.startswith("linux") or _is_chosen_by_user():
        return False
    try:
        if not os.confstr("CS_GNU_LIBC_VERSION"):
            return False
        mallopt = ctypes.CDLL(None).mallopt
    except (ValueError, OSError, AttributeError):  # another C library, such as musl
        return False
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # PyTorch reads it at its first allocation
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _NEVER), (_M_TOP_PAD, _STEP))
    return all(mallopt(ctypes.c_int(name), ctypes.c_int(value)) for name, value in settings)


def _is_chosen_by_user() -> bool:
    if os.environ.get("POLYSCALE_MALLOC", "").lower() == "system":
        return True
    return any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ)


def available_memory() -> int | None:
    """Bytes that this process may still take without others being pushed out; None where nobody knows.

    A limit of the container (control groups) counts as the machine's end.
    """
    found = [_from_meminfo(), *(_left_of(*names) for names in _CGROUPS)]
    known = [value for value in found if value is not None]
    return min(known) if known else None


_CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current", "inactive_file"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        "total_inactive_file",
    ),
)


def _from_meminfo() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        try:
            import psutil
        except ImportError:
            return None
        return int(psutil.virtual_memory().available)
    facts = dict(line.split(":", 1) for line in lines if ":" in line)
    return int(facts["MemAvailable"].split()[0]) * 1024 if "MemAvailable" in facts else None


def _left_of(limit: str, used: str, cache: str) -> int | None:
    """Memory that a control group leaves; pages of files that nobody uses count as free."""
    try:
        most = Path(limit).read_text(encoding="ascii").strip()
        if most == "max":
            return None
        facts = dict(line.split() for line in Path(limit).with_name("memory.stat").read_text("ascii").splitlines())
        return max(0, int(most) - int(Path(used).read_text(encoding="ascii")) + int(facts.get(cache, 0)))
    except (OSError, ValueError):
        return None
