"""``polyscale evaluate``: the scores of a network on a labelled data set."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polyscale.cli import options
from polyscale.cli.display import print_table, progress_bar, say, say_written
from polyscale.files import check_folder

if TYPE_CHECKING:
    import torch

__all__ = ["evaluate_command"]


def evaluate_command(
    checkpoint: options.Checkpoint,
    data: options.Data,
    scales: options.Scales = None,
    flip: options.Flip = False,
    adaptive: options.Adaptive = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Also score each scale alone and average pooling of the same views.")
    ] = False,
    split: Annotated[
        str | None, typer.Option("--split", help="By default val, where the data set has one, else all of it.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="Folder of scores.json and CSV files. By default evaluation/NETWORK-DATA-SPLIT beside the network.",
        ),
    ] = None,
    report: Annotated[
        bool,
        typer.Option("--report", help="Also keep counts and images, and make report.html of them; implies --compare."),
    ] = False,
    gallery: Annotated[
        int, typer.Option("--gallery", min=0, help="With --report: images to keep in full, the worst and others.")
    ] = 12,
    logits: Annotated[
        bool | None,
        typer.Option(
            "--logits/--no-logits",
            help="With --report: keep logits of these images, so that the page can fuse anew. By default where they "
            "are few: up to 12 images of about 850 x 650 pixels.",
        ),
    ] = None,
    cityscapes_submission: Annotated[
        Path | None,
        typer.Option("--cityscapes-submission", help="Also write label ids as Cityscapes' test server takes them."),
    ] = None,
    tile: options.Tile = None,
    overlap: options.Overlap = None,
    device: options.Device = None,
    precision: options.Precision = options.NumberType.float32,
    trust: options.Trust = None,
) -> None:
    """Score a network on labelled images.

    Each is looked at in its own size. Prints mIoU and the scores of each class, and writes them as JSON and CSV.
    Under torchrun, the processes share the images and the scores are the same.
    """
    wanted, tiles = options.parse_scales(scales), options.parse_tiles(tile, overlap)
    from polyscale.evaluation import Recording, evaluate
    from polyscale.evaluation.submission import Submission
    from polyscale.models import load_checkpoint, read_metadata
    from polyscale.models.finding import find_network

    metadata = read_metadata(checkpoint)
    place, main = _place(device)
    name, chosen, opened = _open(data, split, metadata.label_space, main)
    where = find_network(checkpoint) if checkpoint.is_dir() else checkpoint  # no results beside a network that ships
    folder = out or where.parent / "evaluation" / "-".join(filter(None, (where.stem, Path(name).name, chosen)))
    check_folder(folder)
    keep = None if cityscapes_submission is None else Submission(cityscapes_submission, opened).add
    network = load_checkpoint(checkpoint, trust=trust or ())
    model = network.model
    if adaptive is not None:
        from polyscale.adaptive import AdaptiveMultiScale

        model = AdaptiveMultiScale(model, adaptive)
    details: dict[str, Any] = {"checkpoint": str(checkpoint), "data": name, "split": chosen}
    details |= {"adaptive": adaptive, "checkpoint_info": metadata.info}
    recording = Recording(folder, gallery, logits) if report else None
    if report:
        from polyscale.training.records import environment

        details["environment"] = environment()
    with progress_bar("evaluating") as progress:
        evaluation = evaluate(
            model,
            opened,
            model.eval_scales if wanted is None else wanted,
            flip=flip,
            compare=compare or report,
            label_space=network.label_space,
            device=place,
            autocast=_autocast(precision),
            details=details,
            progress=progress if main else None,
            recording=recording,
            keep=keep,
            tiles=tiles if tiles is not None and tiles.tile else None,
        )
    _leave()
    if not main:
        return
    try:
        written = evaluation.write(folder)  # before printing, which ends early where the reader goes away
        if report:
            written += _write_report(folder)
    finally:  # a full disk shall not cost the scores
        for table in evaluation.tables():
            print_table(*table)
    say_written(written)


def _write_report(folder: Path) -> list[Path]:
    from polyscale.report import read_evaluation, write_report

    return write_report(folder / "report.html", [read_evaluation(folder)], ["polyscale", *sys.argv[1:]])


def _open(data: str, split: str | None, label_space: Any, main: bool) -> tuple[str, str | None, Any]:
    """The data set's name, the split chosen, and the data set."""
    from polyscale.data import list_splits, open_data

    if split is None and "val" in list_splits(data):
        split = "val"
        if main:
            say("evaluating the split val; choose another with --split")
    name, separator, named = data.rpartition(":")
    if split is None and separator and not Path(data).exists():
        data, split = name, named
    return data, split, open_data(data, split, label_space)


def _place(device: str | None) -> tuple["torch.device", bool]:
    """The device, and whether this process is the one that prints; joins the processes of torchrun."""
    from polyscale.looker import choose_device

    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return choose_device(device), True
    import torch
    from accelerate import PartialState

    # Without a GPU accelerate must be told so, or it takes each process for the only one.
    state = PartialState(cpu=device == "cpu" or not torch.cuda.is_available())
    return state.device, state.is_main_process


def _leave() -> None:
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def _autocast(precision: options.NumberType) -> "torch.dtype | None":
    import torch

    return torch.bfloat16 if precision is options.NumberType.bfloat16 else None
