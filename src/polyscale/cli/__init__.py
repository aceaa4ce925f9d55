"""The ``polyscale`` command: reads arguments, calls the rooms below, and turns errors into one line.

Unusual here: ``--debug`` may stand anywhere on the line, so it is taken out before the arguments are parsed. Nothing
heavy is imported before a command runs, so that ``polyscale --help`` stays quick.
"""

import logging
import os
import sys
import traceback
import warnings
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status.

    Args:
        arguments: the command line without the program's name; by default the process's own.

    Returns:
        0 on success, 1 where a command says so (unusable data), 2 for what the user can change, 130 when interrupted.
        An error of ours is not caught: it shows its traceback.
    """
    given, debug = _take_debug(sys.argv[1:] if arguments is None else arguments)
    if not debug:
        _silence_libraries()
    try:
        status = _run(given, debug)
        sys.stdout.flush()
    except KeyboardInterrupt:
        status = 130
    except BrokenPipeError:
        # The reader of our output has gone (`polyscale … | head`): no error, and Python shall not complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    if status == 130:
        print("interrupted", file=sys.stderr)
    return status


def _run(arguments: list[str], debug: bool) -> int:
    from polyscale.cli.display import say
    from polyscale.cli.errors import explain
    from polyscale.memory import keep_freed_memory

    keep_freed_memory()
    try:
        from polyscale.cli.app import app

        status = app(arguments, prog_name="polyscale", standalone_mode=False)
    except BrokenPipeError:
        raise
    except Exception as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            print(error)  # the help
            return 2
        line = explain(error)
        if line is None:
            raise
        if debug:
            traceback.print_exc()
        say(f"error: {line}")
        return 2
    return status if isinstance(status, int) else 0


def _take_debug(arguments: Sequence[str]) -> tuple[list[str], bool]:
    """The arguments without ``--debug``, and whether it was there; after ``--`` everything is a plain argument."""
    arguments = list(arguments)
    end = arguments.index("--") if "--" in arguments else len(arguments)
    options = [argument for argument in arguments[:end] if argument != "--debug"]
    return options + arguments[end:], len(options) < end


def _silence_libraries() -> None:
    """Hide warnings that libraries address to programmers; ours are shown as one line, and Python's own stay."""
    logging.getLogger("PIL").addHandler(logging.NullHandler())  # it logs what it raises
    for module in ("torch", "torchvision", "timm", "accelerate", "huggingface_hub", "tensorboard", "PIL", "rasterio"):
        for category in (DeprecationWarning, FutureWarning, UserWarning):
            warnings.filterwarnings("ignore", category=category, module=rf"{module}(\.|$)")
    warnings.formatwarning = _format_warning


_plain_warning = warnings.formatwarning


def _format_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    if category.__module__.startswith("polyscale."):
        from polyscale.cli.display import harmless

        return f"warning: {harmless(' '.join(str(message).split()))}\n"
    return _plain_warning(message, category, filename, lineno, line)
