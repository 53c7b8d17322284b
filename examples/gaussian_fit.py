"""One Gaussian fitted to another: the smallest variational inference there is, watched.

Writes an animation of q moving to p while the ELBO climbs, in one dimension and in two (where a mean-field q cannot
follow the correlation), and what it teaches: why the plain gradient misleads, which way the natural one leads, and how
coordinate, natural-gradient and gradient ascent compare, on all data and on minibatches.

    python examples/gaussian_fit.py                    # under a minute; writes to runs/gaussian_fit
    python examples/gaussian_fit.py --output DIR
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from jensen.families import Gamma, MultivariateNormal, Normal
from jensen.inference import ConjugateModel, Latent, RobbinsMonro, evaluate, infer
from jensen.inference.models.gaussian_fit import FitPath, fit_path, gaussian_fit, gradients_at
from jensen.plots import save
from jensen.plots.animation import save_animation
from jensen.plots.gradients import (
    Field,
    GaussianPair,
    ascent_paths,
    fit_frame,
    gradient_field,
    near_and_far,
    passes_to_optimum,
)

FRAMES = 40
NEAR = 0.001  # nats: close enough to the target
LARGEST = 6.0  # |log sigma|: a step beyond is far too long, and KL there is lost in rounding


def normal(loc: list[float], covariance: list[list[float]]) -> MultivariateNormal:
    """One multivariate normal in float64."""
    return MultivariateNormal.from_standard(
        torch.tensor(loc, dtype=torch.float64), torch.tensor(covariance, dtype=torch.float64)
    )


def animate(name: str, target: MultivariateNormal, start: MultivariateNormal, form: Any, output: Path) -> None:
    """q on its way to p, in natural-gradient steps small enough to watch."""
    path = fit_path(gaussian_fit(target, start, form), "natural", rho=0.12, tol=0, max_steps=FRAMES)
    loc, covariance = target.standard_parameters
    title = f"q moves to p ({form})" if len(loc) > 1 else "q moves to p"
    frames = (
        fit_frame(path.loc, path.covariance, path.elbo, loc, covariance, step, title=title)
        for step in range(len(path.elbo))
    )
    file = save_animation(frames, output / f"{name}.gif")
    print(f"{file}: ELBO {path.elbo[0]:.2f} -> {path.elbo[-1]:.4f} nats, -KL(q || p)")


def near_and_far_pairs(output: Path) -> None:
    """Two pairs of Gaussians, equally far apart in mu."""
    pairs = []
    for title, scale in (("Wide: near", 10.0), ("Narrow: far", 0.5)):
        q, p = Normal.from_standard(0.0, scale), Normal.from_standard(4.0, scale)
        found = gradients_at(q, p)
        remarks = [
            "distance in mu: 4",
            f"KL: {-found.elbo:.2f} nats",
            f"gradient in mu: {found.euclidean[0]:.2f}",
            f"natural gradient: {found.natural[0]:.2f}",
        ]
        pairs.append(GaussianPair(title, (0.0, scale), (4.0, scale), remarks))
        print(f"{title}: " + "; ".join(remarks))
    print(save(near_and_far(pairs), output / "near_and_far.png"))


def gradient_directions(output: Path) -> None:
    """Both gradients in the plane of (mu, log sigma), and the steps that they take from one start to a wide target.

    The largest constant step that the plain gradient can take is set by log sigma, and it is far too small for mu: a
    wide target asks little of mu, so that its gradient is small. The natural gradient knows the width.
    """
    scale, begin = 5.0, (-20.0, 0.0)
    target = Normal.from_standard(0.0, scale)
    loc = torch.linspace(-25, 25, 57, dtype=torch.float64)
    log_scale = torch.linspace(-1.2, 3.2, 45, dtype=torch.float64)
    grid = torch.cartesian_prod(log_scale, loc).reshape(len(log_scale), len(loc), 2).flip(-1)
    found = gradients_at(Normal.from_unconstrained(grid.unbind(-1)), target)
    model = gaussian_fit(normal([0.0], [[scale**2]]), normal([begin[0]], [[math.exp(2 * begin[1])]]))
    way = fit_path(model, "natural", rho=0.5, tol=0, max_steps=60)
    steps = int((way.elbo > -NEAR).nonzero()[0])
    natural = torch.stack([way.loc[: steps + 1, 0], 0.5 * way.covariance[: steps + 1, 0, 0].log()], dim=1)
    fields = {}
    for name, arrows, path in (
        ("Euclidean gradient", found.euclidean, plain_steps(target, begin)),
        ("Natural gradient", found.natural, natural),
    ):
        fields[name] = Field(arrows, path, f"{len(path) - 1} steps to KL < {NEAR}")
        print(f"{name}: {len(path) - 1} steps from mu = {begin[0]:g}, sigma = 1 to KL < {NEAR}")
    print(save(gradient_field(loc, log_scale, found.elbo, fields, (0.0, math.log(scale))), output / "gradients.png"))


def plain_steps(target: Normal, begin: tuple[float, float]) -> Tensor:
    """Euclidean steps in (mu, log sigma) of a constant size: the largest power of two that never lowers the bound."""
    for power in range(12):
        place = torch.tensor(begin, dtype=torch.float64)
        path, elbo = [place], -math.inf
        while elbo <= (now := gradients_at(Normal.from_unconstrained(place.unbind()), target)).elbo:
            elbo = float(now.elbo)
            if elbo > -NEAR:
                return torch.stack(path)
            place = place + 0.5**power * now.euclidean
            if abs(float(place[1])) > LARGEST:
                break
            path.append(place)
    raise RuntimeError("no step size climbed")


def paths(target: MultivariateNormal, start: MultivariateNormal, output: Path) -> None:
    """Coordinate, natural and plain gradient ascent on a correlated target."""
    model = gaussian_fit(target, start, "mean-field")
    ways: list[tuple[str, str, float | None]] = [
        ("coordinate", "cavi", None),
        ("natural gradient, rho 0.5", "natural", 0.5),
        ("gradient", "gradient", None),
    ]
    found: dict[str, FitPath] = {name: fit_path(model, method, rho=rho, tol=1e-6) for name, method, rho in ways}
    loc, covariance = target.standard_parameters
    figure = ascent_paths(loc, covariance, {name: path.loc for name, path in found.items()})
    print(save(figure, output / "paths.png"))


def unknown_mean_and_precision() -> ConjugateModel:
    """x_n ~ N(mu, 1 / tau) with q(mu) q(tau)."""

    def terms(m: Any, x: Tensor) -> Tensor:
        square = x**2 - 2 * x * m.mu.mean + m.mu.square
        return (0.5 * (m.tau.log - math.log(2 * math.pi)) - 0.5 * m.tau.mean * square).sum()

    return ConjugateModel(
        {
            "mu": Latent(Normal.from_standard(-5.0, 1.0), prior=Normal.from_standard(0.0, 10.0)),
            "tau": Latent(Gamma.from_standard(1.0, 1.0), prior=Gamma.from_standard(0.1, 0.1)),
        },
        terms,
    )


def batches(output: Path) -> None:
    """The three methods on all of 1,000 numbers at a time, and on minibatches of 50."""
    x = torch.randn(1000, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 2 + 3
    model = unknown_mean_and_precision()
    optimum = infer(model, x, tol=1e-14).elbo
    ways: dict[str, list[tuple[str, Literal["cavi", "natural", "gradient", "svi"], dict[str, Any]]]] = {
        "All data": [
            ("coordinate", "cavi", {}),
            ("natural, rho 0.5", "natural", {"rho": 0.5}),
            ("gradient", "gradient", {}),
        ],
        "Minibatches of 50": [
            ("coordinate = SVI", "svi", {"rho": RobbinsMonro(1.0, 0.9)}),
            ("natural, rho 0.1", "natural", {"rho": 0.1}),
            ("gradient, rate 0.2", "gradient", {"rho": 0.2}),
        ],
    }
    traces = {}
    for title, methods in ways.items():
        size = None if title == "All data" else 50
        traces[title] = {name: climb(model, x, method, size, options) for name, method, options in methods}
    print(save(passes_to_optimum(traces, optimum), output / "batches.png"))


def climb(
    model: ConjugateModel, x: Tensor, method: str, size: int | None, options: dict[str, Any]
) -> tuple[list[float], list[float]]:
    """(passes over the data, ELBO of all of it) after every step of 30 passes."""
    places: list[float] = []
    values: list[float] = []

    def remember(step: int, elbo: float, state: Any) -> None:
        places.append(step * (size or len(x)) / len(x))
        values.append(evaluate(model, state, x).elbo)

    infer(model, x, method=method, batch_size=size, tol=0, max_steps=30, callback=remember, **options)
    return places, values


def main() -> None:
    """All pictures."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--output", type=Path, default=Path("runs/gaussian_fit"), help="folder of the pictures")
    output = options.parse_args().output
    output.mkdir(parents=True, exist_ok=True)
    target, start = normal([1.0, 2.0], [[2.0, 1.4], [1.4, 1.5]]), normal([-3.0, 3.0], [[0.3, 0.0], [0.0, 0.3]])
    animate("one_dimension", normal([3.0], [[1.0]]), normal([-4.0], [[6.25]]), "full", output)
    animate("two_dimensions", target, start, "full", output)
    animate("two_dimensions_mean_field", target, start, "mean-field", output)
    near_and_far_pairs(output)
    gradient_directions(output)
    paths(target, start, output)
    batches(output)


if __name__ == "__main__":
    main()
