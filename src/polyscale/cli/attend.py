"""``polyscale attend``: which scale to trust, learnt for a network that is trained already."""

from pathlib import Path
from typing import Annotated

import typer

from polyscale.cli import options
from polyscale.cli.display import Bars, print_table, say

__all__ = ["attend_command"]

FEW = 20
"""Images; the range of a gain is worth little with fewer."""


def attend_command(
    checkpoint: options.Checkpoint,
    data: options.Data,
    out: Annotated[Path, typer.Option("--out", help="Folder of the result.", show_default=False)],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[key=value…]", help="Settings such as epochs=12, scales=[0.5,1,2]", show_default=False),
    ] = None,
    held_out: Annotated[
        str | None,
        typer.Option(
            "--held-out",
            metavar="DATA",
            help="Images that judge. By default the split val beside the split train, else a fifth of DATA.",
        ),
    ] = None,
    config: Annotated[
        list[Path] | None, typer.Option("--config", metavar="YAML", help="Settings from a file; may be given twice.")
    ] = None,
    device: options.Device = None,
    trust: options.Trust = None,
) -> None:
    """Learn which scale to trust where, for a trained network.

    The network stays as it is; only a small attention is learnt, in minutes. It is kept where it beats the average of
    the same scales on images that it did not learn from; else the result is that average. The same command continues a
    run that was stopped.

    Example: polyscale attend runs/first/best.safetensors mydata --out runs/attended
    """
    from polyscale.attending import AttendConfig, attend_network
    from polyscale.config import load_config
    from polyscale.data import list_splits, open_data
    from polyscale.models.checkpoint import load_checkpoint

    settings = load_config(AttendConfig, config or [], overrides or [])
    network = load_checkpoint(checkpoint, trust=trust or ())
    splits = list_splits(data)
    train = open_data(data, "train" if "train" in splits else None, network.label_space)
    judges = None
    if held_out is not None:
        judges = open_data(held_out, None, network.label_space)
    elif {"train", "val"} <= set(splits):
        judges = open_data(data, "val", network.label_space)
    bars = Bars()

    def working(what: str, done: int, total: int) -> None:
        bars.update(what, done, total, "steps" if what.startswith("learning") else "images")

    try:
        result = attend_network(network, train, judges, out, settings, device, working)
    finally:
        bars.close()
    print_table(*result.judgement.table())
    gain = f"attention over averaging: {result.judgement.gain} points"
    if result.judgement.keep:
        say(f"{gain}; the attention is kept")
    else:
        say(f"{gain}: no more than chance may give, so the average of the scales is kept")
    if result.judgement.images < FEW:
        say(f"{result.judgement.images} images are few to judge by; name more with --held-out")
    typer.echo(result.best)
