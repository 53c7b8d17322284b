"""One Gaussian moving to another: the animation, q beside p."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jensen import plots
from jensen.cli.estimates import Named
from jensen.cli.present.base import Presentation, count
from jensen.report import Estimate, Picture, Row

if TYPE_CHECKING:
    from jensen.cli.infer_facts import Loaded

__all__ = ["GaussianPresentation"]

_FRAMES = 32


class GaussianPresentation(Presentation):
    """`GaussianFit`."""

    @property
    def bound_meaning(self) -> str:
        """What it says."""
        return "What was climbed: minus the divergence KL(q || p). Zero where q is p."

    def summary(self) -> str:
        """A sentence or two under the heading."""
        return (
            f"A Gaussian q ({self.fitted.form}) on its way to p, the Gaussian with the mean and covariance of "
            f"{count(self.facts.rows, 'row')} of {self.data_name} ({count(len(self.columns), 'column')})."
        )

    def named(self) -> Mapping[str, Named]:
        """What latents are called: "z" has all columns, "z1", "z2", ... one each."""
        single = {f"z{place + 1}": Named(column) for place, column in enumerate(self.columns)}
        return {"z": Named("q", (self.columns,)), **single}

    def estimates(self) -> list[Estimate]:
        """A row a column, whatever the form of q."""
        return [row._replace(group="q") for row in super().estimates()]

    def own_facts(self) -> list[Row]:
        """How narrow q is."""
        share = np.sqrt(np.diag(self.fitted.covariance_) / np.diag(self.fitted.target_covariance_))
        meaning = (
            "Standard deviations of q, as shares of those of p: a mean-field q is too narrow where columns correlate."
        )
        return [Row("Widths", ", ".join(f"{value:.0%}" for value in share[:6]), "", meaning)]

    def pictures(self, data: Loaded | None) -> list[Picture]:
        """The animation, and where q ended over the data."""
        shown = slice(0, 2)
        text = "q (blue) moves to p (orange) while the bound climbs"
        text += f"; the first two of {len(self.columns)} columns." if len(self.columns) > 2 else "."
        alt = "Animation of an ellipse that moves onto another, beside a rising curve."
        found = [Picture("path", "From q to p", text, alt, gif=self._animation(shown))]
        if data is None:
            return found
        names = self.columns[shown]
        figure = plots.ellipses(
            data.table.x[:, shown],
            np.stack([self.fitted.mean_[shown], self.fitted.target_mean_[shown]]),
            np.stack([self.fitted.covariance_[shown, shown], self.fitted.target_covariance_[shown, shown]]),
            names=names,
            title="q (0) and p (1) over the data",
        )
        text = "The ellipses that hold half and 95% of q where it ended (0) and of p (1)."
        return [*found, Picture("end", "Where it ended", text, "Ellipses over points.", figure)]

    def _animation(self, shown: slice) -> bytes:
        fitted = self.fitted
        steps = len(fitted.path_elbo_)
        # The first steps are the long ones.
        frames = np.unique(np.geomspace(1, steps, min(steps, _FRAMES)).round().astype(int) - 1)
        path = (fitted.path_mean_[:, shown], fitted.path_covariance_[:, shown, shown], fitted.path_elbo_)
        target = (fitted.target_mean_[shown], fitted.target_covariance_[shown, shown])
        with tempfile.TemporaryDirectory() as folder:
            figures = (plots.fit_frame(*path, *target, int(step)) for step in frames)
            return plots.save_animation(figures, Path(folder) / "path.gif", seconds=0.25, dpi=90).read_bytes()

    def predictions(self, data: Loaded, level: float) -> dict[str, Any]:
        """The log-density of each row under q."""
        return {"log density": self.fitted.score_samples(data.predict["X"])}
