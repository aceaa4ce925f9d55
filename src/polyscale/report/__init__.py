"""One self-contained HTML page, rendered from scores, counts and pictures made elsewhere.

``write_report`` makes the report of evaluations and runs; ``write_page`` a plain page of tables, curves and pictures.
"""

from polyscale.report.build import write_report
from polyscale.report.data import (
    Card,
    ClassResult,
    Curve,
    Example,
    PageData,
    Picture,
    Strip,
    Table,
)
from polyscale.report.data_page import DataExample, DataSplit, crop_around, write_data_page
from polyscale.report.page import render_page, write_page
from polyscale.report.stored import Run, Stored, find_stored, read_evaluation, read_run
from polyscale.report.summary import summary_picture

__all__ = [
    "Card",
    "ClassResult",
    "Curve",
    "DataExample",
    "DataSplit",
    "Example",
    "PageData",
    "Picture",
    "Run",
    "Stored",
    "Strip",
    "Table",
    "crop_around",
    "find_stored",
    "read_evaluation",
    "read_run",
    "render_page",
    "summary_picture",
    "write_data_page",
    "write_page",
    "write_report",
]
