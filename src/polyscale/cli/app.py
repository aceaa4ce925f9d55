"""The commands, gathered from one file for each group."""

from typing import Annotated

import typer

import polyscale
from polyscale.cli import autolabel, data
from polyscale.cli.attend import attend_command
from polyscale.cli.background import background_command
from polyscale.cli.demo import demo_command
from polyscale.cli.evaluate import evaluate_command
from polyscale.cli.export import export_command
from polyscale.cli.export_labels import export_labels_command
from polyscale.cli.import_reference import import_reference_command
from polyscale.cli.models import models_command
from polyscale.cli.predict import predict_command
from polyscale.cli.report import report_command
from polyscale.cli.train import train_command
from polyscale.cli.try_page import try_command
from polyscale.cli.video import video_command

__all__ = ["app"]

app = typer.Typer(
    name="polyscale",
    help="Semantic segmentation that looks at several scales and learns which to trust where.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("demo")(demo_command)
app.command("train")(train_command)
app.command("attend")(attend_command)
app.command("evaluate")(evaluate_command)
app.command("predict")(predict_command)
app.command("try")(try_command)
app.command("video")(video_command)
app.command("background")(background_command)
app.command("export")(export_command)
app.command("models")(models_command)
app.command("report")(report_command)
app.command("export-labels")(export_labels_command)
app.command("import-reference")(import_reference_command)
app.add_typer(data.app, name="data")
app.add_typer(autolabel.app, name="autolabel")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"polyscale {polyscale.__version__}")
        raise typer.Exit


@app.callback()
def polyscale_command(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", callback=_print_version, is_eager=True)
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error; may stand anywhere.")] = False,
) -> None:
    """Semantic segmentation that looks at several scales and learns which to trust where."""
