"""``polyscale demo``: draws streets, trains a small network, compares ways of combining scales, makes a page of it.

Everything is done by the rooms that a user's own run goes through; this file only calls them in order. A second call in
the same folder continues what an interrupted one left.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from polyscale.cli.display import print_table, progress_bar, say
from polyscale.cli.train import TrainingDisplay
from polyscale.files import write_atomically

__all__ = ["RECIPE", "SCALES", "SPLITS", "demo_command", "run_demo"]

RECIPE = Path(__file__).with_name("demo.yaml")
SCALES = (0.5, 1.0, 2.0)
SPLITS = {"train": 240, "val": 60}


def demo_command(
    out: Annotated[Path, typer.Option("--out", help="Folder of everything that the demo makes.")] = Path("demo"),
    seed: Annotated[int, typer.Option("--seed", min=0, help="Another seed draws other streets and trains anew.")] = 0,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[key=value…]", help="Changes to the recipe, such as training.epochs=1."),
    ] = None,
) -> None:
    """Draw, train, compare, and show it on one page.

    That takes about five minutes on two cores. The same small network and the same views throughout: each scale
    alone, averages of them, and hierarchical attention.
    """
    page, picture = run_demo(out, seed, overrides or ())
    say("the page, the picture, and a checkpoint to play with:")
    typer.echo(page)
    typer.echo(picture)
    typer.echo(out / "run" / "last.safetensors")


def run_demo(out: Path, seed: int = 0, overrides: Sequence[str] = ()) -> tuple[Path, Path]:
    """Everything that the command does.

    Returns:
        The page and the picture.

    Raises:
        UserError: ``out`` cannot be written, or holds a demo with another seed or recipe.
    """
    import polyscale
    from polyscale.config import load_config
    from polyscale.data import open_data
    from polyscale.data.streets import write_streets
    from polyscale.evaluation import Recording, evaluate
    from polyscale.training import ExperimentConfig, train

    data = out / "data"
    settings = [f"seed={seed}", f"data.train.root={json.dumps(str(data))}", *overrides]
    config = load_config(ExperimentConfig, [RECIPE], settings)
    with progress_bar("drawing streets") as progress:
        write_streets(data, SPLITS, seed=seed, progress=progress)
    display = TrainingDisplay()
    try:
        result = train(config, out / "run", resume=True, listener=display)
    finally:
        display.close()
    if result.signal is not None:
        say("give the same command again to continue")
        raise typer.Exit(128 + result.signal)

    val = open_data(data, "val")
    predictor = polyscale.load(result.last)
    with progress_bar("comparing scales") as progress:
        evaluation = evaluate(
            predictor.model, val, SCALES, compare=True, device=predictor.device, progress=progress,
            details={"checkpoint": str(result.last), "data": "drawn streets", "split": "val", "seed": seed},
            recording=Recording(out / "evaluation", logits=True),
        )  # fmt: skip
    evaluation.write(out / "evaluation")
    for table in evaluation.tables():
        print_table(*table)
    return _write(out)


def _write(out: Path) -> tuple[Path, Path]:
    """The page and the picture, from the files of the run and of its evaluation."""
    from polyscale.report import read_evaluation, read_run, summary_picture, write_report

    stored = read_evaluation(out / "evaluation", "demo", read_run(out / "run"))
    heading = "Polyscale demo: which scale to trust where"
    write_report(out / "demo.html", [stored], ["polyscale", *sys.argv[1:]], heading)
    with write_atomically(out / "demo.png") as temporary:
        summary_picture(stored).save(temporary, "PNG", optimize=True)
    return out / "demo.html", out / "demo.png"
