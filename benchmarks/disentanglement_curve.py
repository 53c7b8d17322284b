"""What independence costs: distortion against total correlation of beta-VAE and beta-TCVAE over beta, on dSprites."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from benchmarks.disentanglement_quality import Settings, score_run, train_within
from jensen.config import ObjectiveConfig
from jensen.plots.tradeoff import TradeOff, tradeoff

__all__ = ["BETAS", "QUICK_BETAS", "Point", "curve", "figure"]

BETAS = (1.0, 2.0, 4.0, 6.0, 10.0)
QUICK_BETAS = (1.0, 6.0)
METHODS = {"beta-VAE": "beta", "beta-TCVAE": "total-correlation"}


@dataclass(frozen=True)
class Point:
    """One model of the curve; nats per example."""

    method: str
    beta: float
    steps: int
    distortion: float
    rate: float
    total_correlation: float
    total_correlation_error: float
    mig: float


def curve(betas: Sequence[float], settings: Settings, seconds: float, folder: Path) -> list[Point]:
    """Train and score every point, `seconds` each; at beta 1 both methods are the VAE, which is trained once."""
    points = []
    for beta in betas:
        for method, kind in METHODS.items():
            objective = ObjectiveConfig() if beta == 1.0 else ObjectiveConfig(kind=kind, beta=beta)
            name = f"curve-{objective.kind}-{beta:g}"
            trained = train_within(name, objective, settings, seconds, folder)
            score = score_run(name, settings, folder)
            points.append(
                Point(
                    method=method,
                    beta=beta,
                    steps=trained.steps,
                    distortion=score.distortion,
                    rate=score.rate,
                    total_correlation=score.total_correlation,
                    total_correlation_error=score.total_correlation_error,
                    mig=score.mig,
                )
            )
    return points


def figure(points: Sequence[Point]) -> Figure:
    """Distortion against total correlation, a line a method, each point labelled with its beta."""
    methods = {}
    for method in dict.fromkeys(point.method for point in points):
        own = [point for point in points if point.method == method]
        methods[method] = TradeOff(
            total_correlation=[point.total_correlation for point in own],
            distortion=[point.distortion for point in own],
            labels=[f"{point.beta:g}" for point in own],
            total_correlation_error=[point.total_correlation_error for point in own],
        )
    return tradeoff(methods, title="dSprites: what independence costs")
