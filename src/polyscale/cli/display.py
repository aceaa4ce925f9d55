"""Tables and progress on a terminal, and their quiet forms in a log file.

Progress goes to standard error and results to standard output, so that results can be piped. Where
standard error is no terminal, progress is a plain line every ten seconds.
"""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

__all__ = ["Bar", "Bars", "Progress", "harmless", "open_bar", "print_table", "progress_bar", "say", "say_written"]

Progress = Callable[[int, int | None], None]
"""Called with (how many are done, how many in all or None where nobody knows)."""

LINE_LENGTH = 500
LINE_SECONDS = 10.0
"""Between two lines of progress where there is no terminal."""


class Bar(Protocol):
    """Shows how far a piece of work is."""

    def update(self, done: int, total: int | None, note: str = "") -> None:
        """``done`` of ``total`` (None: nobody knows) are done; ``note`` is a word on how it goes."""

    def pause(self) -> contextlib.AbstractContextManager[None]:
        """While something else is printed."""

    def close(self) -> None:
        """No more updates follow."""


def open_bar(description: str, unit: str = "images", factor: int = 1, done: int = 0) -> Bar:
    """Start to show progress: a bar on a terminal, plain lines elsewhere.

    Args:
        description: what is being done.
        unit: what the rate counts, in the plural.
        factor: how many of these there are in one step of ``done``.
        done: how much was done before, which the rate must not count.
    """
    kind = _DrawnBar if sys.stderr.isatty() else _Lines
    return kind(description, unit, factor, done)


@contextlib.contextmanager
def progress_bar(description: str, unit: str = "images") -> Iterator[Progress]:
    """Show how far a piece of work is, its rate and the time left.

    Args:
        description: what is being done.
        unit: what is counted, in the plural.

    Yields:
        ``update(done, total)``, cheap enough to be called for every image.
    """
    bar = open_bar(description, unit)
    try:
        yield bar.update
    finally:
        bar.close()


class Bars:
    """One bar at a time, opened when its work begins."""

    def __init__(self) -> None:
        self._bar: Bar | None = None
        self._what = ""

    def show(self, what: str, unit: str = "images", factor: int = 1, done: int = 0) -> Bar:
        """The bar of this work; one of other work is closed. Arguments are those of ``open_bar``."""
        if self._bar is None or self._what != what:
            self.close()
            self._bar, self._what = open_bar(what, unit, factor, done), what
        return self._bar

    def update(self, what: str, done: int, total: int, unit: str = "images") -> None:
        """``done`` of ``total`` are done of this work."""
        self.show(what, unit).update(done, total)

    def say(self, line: str) -> None:
        """One line, above the bar if there is one."""
        with contextlib.nullcontext() if self._bar is None else self._bar.pause():
            say(line)

    def close(self) -> None:
        """Leave the terminal clean."""
        if self._bar is not None:
            self._bar.close()
        self._bar, self._what = None, ""


class _DrawnBar:
    def __init__(self, description: str, unit: str, factor: int, done: int) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            ProgressColumn,
            TextColumn,
            TimeRemainingColumn,
        )
        from rich.text import Text

        class Rate(ProgressColumn):
            def render(self, task: Any) -> Text:
                speed = task.finished_speed or task.speed
                return Text("" if speed is None else f"{speed * factor:.1f} {unit}/s")

        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            Rate(),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            TextColumn("{task.fields[note]}", markup=False),
            console=Console(stderr=True),
            redirect_stdout=False,
            speed_estimate_period=60,
        )
        self._task = self._bar.add_task(description, total=None, completed=done, note="")
        self._bar.start()

    def update(self, done: int, total: int | None, note: str = "") -> None:
        self._bar.update(self._task, completed=done, total=total, note=note)

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        self._bar.stop()
        try:
            yield
        finally:
            self._bar.start()

    def close(self) -> None:
        self._bar.stop()


class _Lines:
    """At most one line every ``LINE_SECONDS``, and a last one with the whole time where that was long."""

    def __init__(self, description: str, unit: str, factor: int, done: int) -> None:
        self.description, self.unit, self.factor = description, unit, factor
        self.first = self.done = done
        self.note = ""
        self.start = self.shown = time.monotonic()

    def update(self, done: int, total: int | None, note: str = "") -> None:
        self.done, self.note = done, note
        now = time.monotonic()
        if now - self.shown < LINE_SECONDS or done == self.first:
            return
        self.shown = now
        rate = (done - self.first) / (now - self.start)
        if total is None:
            self._print(f"{done}, {rate * self.factor:.1f} {self.unit}/s")
            return
        left = duration(max(0, total - done) / rate)
        self._print(f"{done} of {total}, {rate * self.factor:.1f} {self.unit}/s, {left} left")

    def pause(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def close(self) -> None:
        seconds = time.monotonic() - self.start
        if self.done > self.first and seconds >= LINE_SECONDS:
            self._print(f"{(self.done - self.first) * self.factor} {self.unit} in {duration(seconds)}")

    def _print(self, text: str) -> None:
        say(f"{self.description}: {text}" + (f", {self.note}" if self.note else ""))


def duration(seconds: float) -> str:
    """Seconds as a person says them: 8 s, 2 min 5 s, 3 h 20 min."""
    whole = round(seconds)
    hours, minutes = whole // 3600, whole % 3600 // 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"


def harmless(text: str) -> str:
    r"""Text for a terminal: names of files and classes come from anybody, and what would steer it is an escape.

    Example:
        >>> harmless("a\x1b[2J")
        'a\\x1b[2J'
    """
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def say(text: str) -> None:
    """One harmless line of at most ``LINE_LENGTH`` characters beside the results, on standard error."""
    text = harmless(text)
    if len(text) > LINE_LENGTH:  # the thing stands at the beginning, the advice at the end
        text = f"{text[: LINE_LENGTH - 203]} … {text[-200:]}"
    print(text, file=sys.stderr, flush=True)


def say_written(paths: Sequence[Path]) -> None:
    """One line for each file, so that none wraps into the next."""
    for path in paths:
        say(f"written: {path}")


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], note: str = "") -> None:
    """Print a table on standard output: numbers to the right, floats with one decimal, None as a dash.

    Args:
        title: the line above it.
        columns: headings.
        rows: one value for each column.
        note: a line below it.
    """
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    cells = [[_cell(value) for value in row] for row in rows]
    numeric = [any(_is_number(row[position]) for row in cells) for position in range(len(columns))]

    def build(narrow: bool) -> Table:
        """Narrow: headings of numbers take a line for each word. Names in the first column and numbers never break."""
        table = Table(box=box.SIMPLE_HEAD, collapse_padding=narrow, pad_edge=not narrow)
        for position, heading in enumerate(columns):
            text = escape(harmless(heading))
            number = numeric[position]
            table.add_column(
                text.replace(" ", "\n") if narrow and number else text, justify="right" if number else "left",
                overflow="fold", no_wrap=position == 0 or (narrow and number),
            )  # fmt: skip
        for row in cells:
            table.add_row(*row)
        return table

    # A file or a pipe has no width of its own, and a table that is cut to 80 characters loses its numbers.
    table, unlimited = build(narrow=False), Console(width=10_000)
    width = unlimited.measure(table).maximum
    if sys.stdout.isatty() and width > Console().width:
        table = build(narrow=True)
        width = max(Console().width, unlimited.measure(table).minimum)
    console = Console(width=max(80, width))
    with console.capture() as captured:
        console.print(harmless(title), style="bold", markup=False, highlight=False, soft_wrap=True)
        console.print(table)
    lines = [line.rstrip() for line in captured.get().splitlines()]
    print("\n".join(line for line in lines if line))
    print(f"{harmless(note)}\n" if note else "")


def _cell(value: Any) -> str:
    from rich.markup import escape

    if value is None:
        return "-"
    return f"{value:.1f}" if isinstance(value, float) else escape(harmless(str(value)))


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", "").removesuffix("%"))
    except ValueError:
        return False
    return True
