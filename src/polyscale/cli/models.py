"""``polyscale models``: the networks that ship with the package."""

import typer

from polyscale.cli.display import print_table, say

__all__ = ["models_command"]


def models_command() -> None:
    """List the networks that can be used by name.

    Example: polyscale predict people photo.jpg
    """
    from polyscale.models.finding import SHORT, shipped_networks

    networks = shipped_networks()
    if not networks:
        say("no networks ship with this installation")
        raise typer.Exit(1)
    short = {name: other for other, name in SHORT.items()}
    rows = []
    for item in networks:
        size = f"{item.file.stat().st_size / 1e6:.1f}"
        rows.append([item.name, short.get(item.name, ""), len(item.classes), size, str(item.info.get("score", ""))])
    print_table("Networks that ship with Polyscale", ["name", "or", "classes", "MB", "score"], rows)
    for item in networks:
        typer.echo(f"\n{item.name}: {', '.join(item.classes)}")
        for key in ("trained_on", "split", "resolution", "pretraining", "licence", "controls"):
            if key in item.info:
                typer.echo(f"  {key.replace('_', ' ')}: {item.info[key]}")
