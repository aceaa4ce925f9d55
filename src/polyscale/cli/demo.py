"""``polyscale demo``: draws streets, trains a small network, compares ways of combining scales, makes a page of it.

Everything is done by the rooms that a user's own run goes through; this file only calls them in order. A second call in
the same folder continues what an interrupted one left.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polyscale.cli.display import print_table, progress_bar, say
from polyscale.cli.train import TrainingDisplay
from polyscale.files import write_atomically

if TYPE_CHECKING:
    from polyscale.data import SegmentationData
    from polyscale.inference.predictor import Predictor
    from polyscale.report import Curve, Example

__all__ = ["RECIPE", "SCALES", "SPLITS", "demo_command", "run_demo"]

RECIPE = Path(__file__).with_name("demo.yaml")
SCALES = (0.5, 1.0, 2.0)
SPLITS = {"train": 240, "val": 60}
NUM_EXAMPLES = 4


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
    import torch

    import polyscale
    from polyscale.config import load_config
    from polyscale.data import open_data
    from polyscale.data.streets import write_streets
    from polyscale.evaluation import evaluate
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
        raise typer.Exit(128 + result.signal)

    val = open_data(data, "val")
    predictor = polyscale.load(result.last)
    with progress_bar("comparing scales") as progress:
        evaluation = evaluate(
            predictor.model, val, SCALES, compare=True, device=predictor.device, progress=progress,
            details={"checkpoint": str(result.last), "data": "drawn streets", "split": "val", "seed": seed},
        )  # fmt: skip
    evaluation.write(out / "evaluation")
    for table in evaluation.tables():
        print_table(*table)
    with torch.inference_mode():
        examples = [_example(predictor, val, index) for index in range(min(NUM_EXAMPLES, len(val)))]
    log = out / "run" / "log.jsonl"
    return _write(out, evaluation.to_json(), examples, _curves(log), {"seed": str(seed)}, predictor)


def _example(predictor: "Predictor", data: "SegmentationData", index: int) -> "Example":
    """One validation image: its truth, the fused result, what each scale says alone, and how much each counts."""
    from polyscale.crops.transforms import to_tensor
    from polyscale.looker import weights_of
    from polyscale.multiscale import resize
    from polyscale.report import example

    sample = data.read(index)
    assert sample.labels is not None
    fused = predictor.looker.see(to_tensor(sample.image)[None], SCALES)
    size = sample.labels.shape
    alone = {scale: resize(view.logits, size)[0].argmax(0).byte().cpu().numpy() for scale, view in fused.views.items()}
    weights = weights_of(predictor.model, fused, size)
    attention = {scale: weight[0, 0].cpu().numpy() for scale, weight in weights.items()}
    labels = fused.logits[0].argmax(0).byte().cpu().numpy()
    return example(sample.name, sample.image, labels, data.label_space, sample.labels, attention, alone)


def _curves(log: Path) -> list["Curve"]:
    from polyscale.report import Curve
    from polyscale.training.records import RunLog

    points = [(line["step"], line["loss"]["total"]) for line in RunLog.read(log) if "loss" in line]
    return [Curve("Training loss", points, noisy=True)]


def _write(
    out: Path,
    scores: dict[str, Any],
    examples: "list[Example]",
    curves: "list[Curve]",
    details: dict[str, str],
    predictor: "Predictor",
) -> tuple[Path, Path]:
    from polyscale.pictures import legend, panel
    from polyscale.report import Card, PageData, class_results, comparison, write_page

    rows = {name: row["mean_iou"] for name, row in scores["rows"].items()}
    gain, over_average = (100 * (rows["fused"] - rows[name]) for name in ("scale 1", "average of probabilities"))
    space = predictor.label_space
    shown = ["scale 0.5", "scale 1", "scale 2", "average of probabilities", "fused"]
    page = PageData(
        title="Polyscale demo: which scale to trust where",
        summary=(
            f"One small network, trained for minutes on drawn streets, looks at each image at {len(SCALES)} scales. "
            f"Hierarchical attention scores {100 * rows['fused']:.1f} mIoU: {gain:+.1f} points against its own scale "
            f"1, {over_average:+.1f} against the average of the same views."
        ),
        cards=[
            Card("Hierarchical attention", f"{100 * rows['fused']:.1f}", "mIoU, scales 0.5, 1, 2"),
            Card("Scale 1 alone", f"{100 * rows['scale 1']:.1f}", "mIoU, the same network"),
            Card("Average pooling", f"{100 * rows['average of probabilities']:.1f}", "mIoU, the same views"),
        ],
        comparison=comparison(scores, "The same network and the same views; only the way of combining them differs."),
        classes=class_results(scores, space, shown),
        curves=curves,
        examples=examples,
        details={
            **details,
            "network": f"tiny backbone, {sum(p.numel() for p in predictor.model.parameters()):,} parameters",
            "images": f"{SPLITS['train']} to train, {SPLITS['val']} to validate, drawn by Polyscale",
        },
    )
    write_page(out / "demo.html", page)
    pictures = [(picture.caption, picture.image) for strip in examples[0].strips for picture in strip.pictures]
    with write_atomically(out / "demo.png") as temporary:
        panel(pictures, 4, legend(space, 1000)).save(temporary, "PNG")
    return out / "demo.html", out / "demo.png"
