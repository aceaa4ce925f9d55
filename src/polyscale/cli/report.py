"""``polyscale report``: one page on evaluations and runs, from their files alone."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from polyscale.cli.display import say

__all__ = ["report_command"]


def report_command(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN_OR_SCORES…",
            help="Folders of runs or evaluations; NAME=PATH names one. Those of one name are its seeds.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="The page's file.")] = Path("report.html"),
) -> None:
    """Make one page: where a network fails, which scale it trusts, and what would have happened otherwise.

    The page is about the first evaluation; the others are compared with it. Nothing is scored anew: evaluate with
    --report first, which keeps the counts and the images that the page shows. It opens from disk, without a server.
    """
    from polyscale.report import find_stored, write_report

    stored = find_stored(sources)
    written = write_report(out, stored, ["polyscale", *sys.argv[1:]])
    without = [one.name for one in stored if one.scores is not None and one.about is None]
    if without:
        say(f"no counts and images of {', '.join(without)}: evaluate with --report to see them too")
    for path in written:
        typer.echo(path)
