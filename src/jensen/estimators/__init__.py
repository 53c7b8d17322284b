"""Every scikit-learn face of Jensen's models."""

from __future__ import annotations
