"""Rendering of a page: one HTML file that needs nothing else, neither the network nor files beside it.

Pictures are embedded as data, and a content security policy forbids every request, so that a page can
be sent by mail and opened anywhere. The template is ``templates/page.html.j2``; its style and script lie beside it.
"""

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from polyscale.files import write_atomically
from polyscale.pictures import HEAT_COLORS
from polyscale.report.chart import line_chart
from polyscale.report.data import PageData

__all__ = ["data_uri", "render_page", "template_environment", "write_page"]

LONGEST_SIDE = 1600
"""Pictures longer than this, in pixels, are embedded smaller."""

FLAT_COLORS = 128
"""A picture with no more colours is taken for a label map."""


def template_environment(**filters: Callable[[Any], str]) -> Environment:
    """Environment of the page templates, with filters by name."""
    environment = Environment(
        loader=PackageLoader("polyscale.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(filters)
    return environment


def render_page(data: PageData) -> str:
    """Render a page as HTML text."""
    environment = template_environment(data_uri=data_uri, line_chart=line_chart)
    return environment.get_template("page.html.j2").render(
        page=data,
        heat=", ".join("#{:02x}{:02x}{:02x}".format(*color) for color in HEAT_COLORS),
    )


def write_page(path: str | Path, data: PageData) -> None:
    """Write a page in one step; missing folders are made.

    Raises:
        UserError: the file cannot be written.
    """
    text = render_page(data)
    with write_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def data_uri(image: Image.Image) -> str:
    """A picture as a ``data:`` address: PNG where it has few colours (label maps stay exact), else JPEG."""
    image = image.convert("RGB")
    flat = image.getcolors(FLAT_COLORS) is not None
    if max(image.size) > LONGEST_SIDE:
        factor = LONGEST_SIDE / max(image.size)
        size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
        image = image.resize(size, Image.Resampling.NEAREST if flat else Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    if flat:
        image.save(buffer, "PNG", optimize=True)
    else:
        image.save(buffer, "JPEG", quality=88, subsampling=0, optimize=True)
    kind = "png" if flat else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
