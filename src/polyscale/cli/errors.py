"""Turns an exception into the one line that a user can act on.

Errors are told apart by what they carry rather than by class where importing the class would mean
importing torch, safetensors or typer's inner parts.
"""

import errno
import re

from polyscale.errors import UserError

__all__ = ["explain"]

SETTINGS = {"train": "training.epochs=10", "attend": "epochs=12"}
"""Commands whose settings are no options, each with an example."""

_DEBUG_HINT = "--debug shows where"


def explain(error: BaseException) -> str | None:
    """One line that says what is wrong and what to do, or None for an error of our own: it needs its traceback."""
    message = _own_message(error)
    if isinstance(error, UserError):  # it names the thing already
        return _one_line(message)
    if _says_disk_full(error, message):
        return f"{_named(error)}the disk is full; free some space or choose another folder"
    if hasattr(error, "format_message"):  # typer's errors of usage
        return _usage(error)
    if isinstance(error, OSError):
        return _system(error, message)
    if _says_out_of_memory(error, message):
        return "out of memory; choose a smaller crop or batch, fewer or smaller scales, or gradient checkpointing"
    if message.startswith("DataLoader worker (pid"):
        return (
            "the system ended a process that loads images, mostly for lack of memory; choose fewer training.num_workers"
        )
    if message == "Could not determine home directory.":
        return "a path begins with ~ and a name, but there is no such user; give the whole path"
    if message.startswith("Expected more than 1 value per channel"):
        return (
            "so small a crop in a batch of one leaves batch norm a single value; "
            "enlarge augment.crop or training.batch_size, or set training.freeze_batchnorm"
        )
    if isinstance(error, ValueError):
        return _one_line(message) or f"{type(error).__name__} without a message; {_DEBUG_HINT}"
    if isinstance(error, ModuleNotFoundError) and error.name and not error.name.startswith("polyscale"):
        return _one_line(message)
    return None


def _own_message(error: BaseException) -> str:
    """The error's message; of one that came from a data loader's process, the last line of the traceback inside it."""
    message = str(error)
    if "Original Traceback (most recent call last)" not in message:
        return message
    last = [line for line in message.splitlines() if line.strip()][-1]
    return re.sub(r"^[\w.]+: ", "", last)


def _says_disk_full(error: BaseException, message: str) -> bool:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    # safetensors (in Rust) and torch's zip writer wrap the system's error in their own.
    return "No space left on device" in message or "PytorchStreamWriter failed writing" in message


def _says_out_of_memory(error: BaseException, message: str) -> bool:
    if type(error).__name__ == "OutOfMemoryError" or isinstance(error, MemoryError):
        return True
    # Of CPU memory torch says so in a plain RuntimeError; the second form is that of Windows.
    return isinstance(error, RuntimeError) and ("allocate memory" in message or "not enough memory" in message)


def _system(error: OSError, message: str) -> str:
    reason = error.strerror
    if reason is None:
        return _one_line(message) or f"{type(error).__name__}; {_DEBUG_HINT}"
    if isinstance(error, FileNotFoundError):
        return f"{_named(error)}no such file or folder; check the path"
    if isinstance(error, PermissionError):
        return f"{_named(error)}permission denied; choose a path that you may read and write"
    return f"{_named(error)}{reason}; {_DEBUG_HINT}"


def _named(error: BaseException) -> str:
    name = getattr(error, "filename", None)
    return "" if name is None else f"{name}: "


def _usage(error: BaseException) -> str:
    message = _one_line(error.format_message())  # type: ignore[attr-defined]
    context = getattr(error, "ctx", None)
    where = f"{context.command_path} --help" if context is not None else "polyscale --help"
    if getattr(error, "option_name", None) and context is not None and context.command.name in SETTINGS:
        message = f"{message.rstrip('.')}; a setting is given as key=value, such as {SETTINGS[context.command.name]}"
    return f"{message.rstrip('.')}; see {where}"


def _one_line(text: str) -> str:
    return " ".join(text.split())
