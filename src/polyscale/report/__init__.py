"""One self-contained HTML page, rendered from scores, counts and pictures made elsewhere.

``write_report`` makes the report of evaluations and runs; ``write_page`` a plain page of tables, curves and pictures.
"""

from polyscale.report.build import write_report
from polyscale.report.data import (
    METRICS,
    Card,
    ClassResult,
    Comparison,
    Curve,
    Example,
    Metric,
    PageData,
    Picture,
    Row,
    Strip,
    Table,
)
from polyscale.report.data_page import DataExample, DataSplit, write_data_page
from polyscale.report.gallery import example
from polyscale.report.page import render_page, write_page
from polyscale.report.stored import Run, Stored, find_stored, read_evaluation, read_run
from polyscale.report.summary import summary_picture
from polyscale.report.tables import class_results, comparison

__all__ = [
    "METRICS",
    "Card",
    "ClassResult",
    "Comparison",
    "Curve",
    "DataExample",
    "DataSplit",
    "Example",
    "Metric",
    "PageData",
    "Picture",
    "Row",
    "Run",
    "Stored",
    "Strip",
    "Table",
    "class_results",
    "comparison",
    "example",
    "find_stored",
    "read_evaluation",
    "read_run",
    "render_page",
    "summary_picture",
    "write_data_page",
    "write_page",
    "write_report",
]
