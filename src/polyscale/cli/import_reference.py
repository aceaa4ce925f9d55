"""``polyscale import-reference``: checkpoints of the paper's authors, and of projects with the same networks."""

from pathlib import Path
from typing import Annotated

import typer

from polyscale.cli import options
from polyscale.cli.display import say

__all__ = ["import_reference_command"]


def import_reference_command(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="A .pth checkpoint, or .pdparams of PaddleSeg.", show_default=False),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The .safetensors file to write.", show_default=False)],
    label_space: Annotated[
        str | None,
        typer.Option(
            "--label-space",
            metavar="NAME|FILE.yaml",
            help="Its classes: cityscapes, mapillary-vistas-1.2 or a YAML file. By default 19 classes are Cityscapes "
            "and 65 Mapillary Vistas 1.2.",
        ),
    ] = None,
    scales: options.Scales = None,
) -> None:
    """Turn a checkpoint of the paper's authors into one of Polyscale.

    Takes files of NVIDIA/semantic-segmentation, of HRNet-Semantic-Segmentation (branch HRNet-OCR) and of PaddleSeg's
    OCRNet and MscaleOCRNet. Only tensors are read from them. If a tensor fits nowhere, or a layer gets none, the
    command stops and names it.
    """
    chosen = options.parse_scales(scales)
    from polyscale.data.known_spaces import known_space, known_spaces
    from polyscale.labels import LabelSpace
    from polyscale.models.reference import import_reference

    space = None
    if label_space is not None:
        known = label_space in known_spaces() or not label_space.endswith((".yaml", ".yml"))
        space = known_space(label_space) if known else LabelSpace.from_yaml(label_space)
    imported = import_reference(file, out, space, chosen)
    backbone, decoder = imported.config.backbone.name, imported.config.decoder.kind
    method, classes = imported.config.multiscale.method, imported.label_space
    say(f"{backbone} with decoder {decoder}, method {method}, {classes.num_classes} classes of {classes.name}")
    if not imported.exact:
        say(f"{imported.origin} computes a little differently: take these weights as a start for training")
    typer.echo(out)
