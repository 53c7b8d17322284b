"""A page with all there is to see of a run or of a posterior.

The names below are loaded when first used: a posterior's page needs nothing of what trains networks.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jensen.report.html import Picture, Row
    from jensen.report.inference import Estimate, InferencePage, write_inference_report
    from jensen.report.page import write_report

_HOMES = {
    "Estimate": "inference",
    "InferencePage": "inference",
    "Picture": "html",
    "Row": "html",
    "write_inference_report": "inference",
    "write_report": "page",
}

__all__ = ["Estimate", "InferencePage", "Picture", "Row", "write_inference_report", "write_report"]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'jensen.report' has no attribute {name!r}")
    return getattr(import_module(f"jensen.report.{_HOMES[name]}"), name)
