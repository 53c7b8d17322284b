"""A page with all there is to see of a run."""

from __future__ import annotations

from jensen.report.page import write_report

__all__ = ["write_report"]
