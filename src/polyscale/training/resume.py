"""The state from which a killed run continues, and the signals that ask it to stop.

Unusual here: no random-number state is stored, as every draw is a function of (seed, step). The state is a file of tensors and plain
values; it is read back with ``weights_only=True`` and only by a run with the same configuration.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from polyscale.config import UserError, write_atomically

__all__ = ["StopRequest", "read_state", "stop_on_signals", "write_state"]


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Write the state in one step: a kill at any moment leaves the old one or the new one.

    Raises:
        UserError: the disk is full or the folder cannot be written.
    """
    with write_atomically(path) as temporary:
        try:
            torch.save(state, temporary)
        except RuntimeError as error:  # torch reports a full disk as a RuntimeError of its zip writer
            raise OSError(f"writing failed ({str(error).splitlines()[0]})") from error


def read_state(path: Path, fingerprint: str) -> dict[str, Any]:
    """Read the state of a run of the same configuration.

    Args:
        path: file that ``write_state`` wrote.
        fingerprint: of the configuration that continues.

    Raises:
        UserError: an unreadable file, or a run of another configuration.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types for a damaged file
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{path} cannot be read ({reason}); remove it to start anew from the beginning") from None
    if not isinstance(state, dict) or state.get("fingerprint") != fingerprint:
        raise UserError(
            f"{path} belongs to a run of another configuration; continue with the config.yaml beside it, or choose another --out"
        )
    return state


class StopRequest:
    """Set by SIGTERM or Ctrl-C; the loop looks at it between steps, saves and stops."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """The signal handler. A second Ctrl-C stops at once."""
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Turn SIGTERM and Ctrl-C into a request to save and stop; does nothing outside the main thread."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    numbers = (signal.SIGTERM, signal.SIGINT)
    previous = {number: signal.signal(number, request) for number in numbers}
    try:
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
