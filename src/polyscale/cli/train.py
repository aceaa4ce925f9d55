"""``polyscale train``: train a network by a recipe, and show progress."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polyscale.cli.display import Bars, print_table, say
from polyscale.errors import UserError
from polyscale.files import refuse_address

if TYPE_CHECKING:
    from polyscale.evaluation import Evaluation

__all__ = ["TrainingDisplay", "train_command"]


def train_command(
    recipe: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="DATA | CONFIG.yaml… [key=value…]",
            help="The folder of a data set, for which a recipe is chosen; or YAML files of a recipe, later ones win. "
            "Then single keys such as training.epochs=10.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the run. By default runs/NAME.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in the folder; with --out alone, by its own config.")
    ] = False,
) -> None:
    """Train a network.

    Leaves best.safetensors, last.safetensors, the resolved configuration and the log in the run's folder. Under
    torchrun or accelerate launch all processes train together. Ctrl-C saves first.

    Example: polyscale train mydata --out runs/first
    """
    from polyscale.config import load_config
    from polyscale.training import ExperimentConfig, choose_recipe, run_name, train

    files = [part for part in recipe or () if "=" not in part or Path(part).exists()]
    overrides = [part for part in recipe or () if part not in files]
    data = _data(files)
    out = out if data is None else out or Path("runs") / run_name(data)
    if resume and out is not None and (data is not None or not files):
        # A run keeps what was chosen when it began.
        if (out / "config.yaml").is_file():
            files, data = [str(out / "config.yaml")], None
        elif data is None:
            raise UserError(f"{out} holds no run to continue (no config.yaml); check the path, or name a recipe")
    if data is None:
        _check_recipes(files)
        config = load_config(ExperimentConfig, files, overrides)
    else:
        chosen = choose_recipe(data)
        config = load_config(ExperimentConfig, [], overrides, chosen)
        _tell(chosen["notes"])
    folder = out or Path("runs") / config.name
    display = TrainingDisplay()
    try:
        result = train(config, folder, resume, display)
    finally:
        display.close()
    if result.signal is not None:
        if not display.quiet:
            say("continue with --resume")
        raise typer.Exit(128 + result.signal)
    if display.quiet:
        return
    score = "" if result.best_miou is None else f", best mIoU {100 * result.best_miou:.2f}"
    say(f"trained {result.steps} steps{score}")
    typer.echo(result.best)


def _data(parts: list[str]) -> str | None:
    """The data set, if one is named in place of a recipe."""
    from polyscale.training import is_data

    return parts[0] if len(parts) == 1 and is_data(parts[0]) else None


def _tell(notes: Sequence[str]) -> None:
    """What was chosen for the data and why; said by the first process."""
    if os.environ.get("RANK", "0") == "0":
        for line in notes:
            say(line)
        say("config.yaml in the run's folder is this recipe; change it there, or with key=value")


def _check_recipes(files: list[str]) -> None:
    if not files:
        raise UserError(
            "no data or recipe given; name a data set's folder, a YAML file such as configs/camvid/lite0.yaml, or a "
            "run with --out DIR --resume"
        )
    for part in files:
        if Path(part).is_dir():
            raise UserError(
                f"{part} is a folder; name it alone to have a recipe chosen for it, or give a recipe's YAML file the "
                f"key data.train.root={part}"
            )
        if Path(part).suffix == ".safetensors":
            raise UserError(
                f"{part} is a checkpoint; name a recipe's YAML file, and training.start_from={part} to begin with it"
            )
        if not Path(part).is_file():
            refuse_address(part)
            raise UserError(
                f"no such file: {part}; name a data set's folder, a recipe's YAML file, or a change such as "
                "training.epochs=10"
            )


class TrainingDisplay(Bars):
    """Shows a run on the terminal; a ``polyscale.training.Listener``. Processes other than the first never call it."""

    def __init__(self) -> None:
        super().__init__()
        self.quiet = True
        self._steps = (0, 0, 1)

    def started(self, first_step: int, total_steps: int, crops_per_step: int) -> None:
        """Training begins at ``first_step`` of ``total_steps``."""
        self.quiet = False
        self._steps = (first_step, total_steps, crops_per_step)
        self.show("training", "crops", crops_per_step, first_step)  # what was shown before has ended

    def stepped(self, step: int, loss: float) -> None:
        """``step`` steps are done; ``loss`` is the mean since the last call."""
        first, total, crops = self._steps
        self.show("training", "crops", crops, first).update(step, total, f"loss {loss:.4f}")
        self._steps = (step, total, crops)

    def validated(self, epoch: int, evaluation: "Evaluation", best: bool) -> None:
        """A validation ended after ``epoch`` epochs."""
        self.close()
        classes = evaluation.tables()[1]
        miou = evaluation.scores.mean_iou
        score = "not defined" if miou is None else f"{100 * miou:.2f}" + (", the best so far" if best else "")
        print_table(f"After epoch {epoch}: mIoU {score}. {classes.title}", *classes[1:])

    def said(self, message: str) -> None:
        """Something worth a line."""
        self.say(message)

    def working(self, what: str, done: int, total: int) -> None:
        """Progress of work other than training steps."""
        self.update(what, done, total)
        if done == total:
            self.close()
