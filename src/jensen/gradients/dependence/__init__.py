"""Which term of a log joint depends on which latent."""

from __future__ import annotations

from jensen.gradients.dependence.trace import Dependence, trace

__all__ = ["Dependence", "trace"]
