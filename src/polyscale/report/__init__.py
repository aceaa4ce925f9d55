"""One self-contained HTML page, rendered from scores and pictures made elsewhere; it never computes a score."""

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
from polyscale.report.gallery import example
from polyscale.report.page import render_page, write_page
from polyscale.report.tables import class_results, comparison

__all__ = [
    "METRICS",
    "Card",
    "ClassResult",
    "Comparison",
    "Curve",
    "Example",
    "Metric",
    "PageData",
    "Picture",
    "Row",
    "Strip",
    "Table",
    "class_results",
    "comparison",
    "example",
    "render_page",
    "write_page",
]
