"""The smallest inference there is: one Gaussian fitted to another, ELBO = -KL(q || p), and the gradients that do it.

The target p = N(mu, Sigma) is both model and answer, so that everything can be seen and checked: a full q reaches
ELBO = 0 in one update; a mean-field q reaches the right mean and too small variances, 1 / Lambda_ii (Bishop 2006,
10.1.2); and plain gradients show how they depend on the parameters that q happens to be written in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from jensen.families import MultivariateNormal, Normal
from jensen.inference.conjugate import ConjugateModel, Latent, State
from jensen.inference.evaluation import evaluate
from jensen.inference.methods import infer

__all__ = ["FitPath", "Gradients", "fit_path", "gaussian_fit", "gradients_at", "joint_parameters"]

_LOG_2PI = math.log(2 * math.pi)


def gaussian_fit(
    target: MultivariateNormal, start: MultivariateNormal, form: Literal["full", "mean-field"] = "full"
) -> ConjugateModel:
    """The model whose posterior is `target` itself; it has no data.

    Args:
        target: p, one normal of dimension D.
        start: the first q, of the same dimension; mean-field takes its means and variances.
        form: "full": one latent "z", a normal with covariance. "mean-field": latents "z1" ... "zD", each a normal.

    Raises:
        ValueError: target and start are not single normals of one dimension; an unknown form.
    """
    for name, q in (("target", target), ("start", start)):
        if q.batch_shape or q.event_shape != target.event_shape:
            raise ValueError(
                f"{name} must be one normal of dimension {target.event_shape[-1]}, "
                f"got batch shape {tuple(q.batch_shape)} and dimension {q.event_shape[-1]}"
            )
    if form == "full":
        return ConjugateModel(latents={"z": Latent(start, prior=target)})
    if form != "mean-field":
        raise ValueError(f"form must be 'full' or 'mean-field', got {form!r}")
    loc, covariance = start.standard_parameters
    names = [f"z{i + 1}" for i in range(len(loc))]
    scales = covariance.diagonal().sqrt()
    precision_mean, precision = target.natural_parameters
    constant = -target.log_partition() - 0.5 * len(loc) * _LOG_2PI

    def global_terms(m: Any) -> Tensor:
        mean = torch.stack([m[name].mean for name in names])
        square = torch.stack([m[name].square for name in names])
        second = torch.outer(mean, mean) - torch.diag(mean**2) + torch.diag(square)
        return precision_mean @ mean - 0.5 * (precision * second).sum() + constant

    starts = (Normal.from_standard(*pair) for pair in zip(loc, scales, strict=True))
    return ConjugateModel(latents={n: Latent(q) for n, q in zip(names, starts, strict=True)}, global_terms=global_terms)


def joint_parameters(state: State) -> tuple[Tensor, Tensor]:
    """Mean (D) and covariance (D, D) of q in a state of `gaussian_fit`."""
    if "z" in state.q:
        loc, covariance = state.q["z"].standard_parameters
        return loc, covariance
    pairs = [q.standard_parameters for q in state.q.values()]
    return torch.stack([p.loc for p in pairs]), torch.diag(torch.stack([p.scale for p in pairs]) ** 2)


@dataclass(frozen=True)
class FitPath:
    """q on its way, the start included.

    Attributes:
        loc: (steps + 1, D).
        covariance: (steps + 1, D, D).
        elbo: nats, (steps + 1); for a normalised target this is -KL(q || p).
        converged: whether it stopped by the tolerance.
    """

    loc: Tensor
    covariance: Tensor
    elbo: Tensor
    converged: bool


def fit_path(
    model: ConjugateModel,
    method: str = "natural",
    *,
    rho: float | None = None,
    tol: float = 1e-10,
    max_steps: int = 1000,
) -> FitPath:
    """Every q from the start to the optimum, by one of the methods of `infer`."""
    start = model.start()
    found = [(*joint_parameters(start), evaluate(model, start).elbo)]

    def remember(step: int, elbo: float, state: State) -> None:
        found.append((*joint_parameters(state), elbo))

    result = infer(model, method=method, rho=rho, tol=tol, max_steps=max_steps, callback=remember)
    loc, covariance, elbo = zip(*found, strict=True)
    return FitPath(torch.stack(loc), torch.stack(covariance), loc[0].new_tensor(elbo), result.converged)


class Gradients(NamedTuple):
    """The ELBO (nats) and its two gradients in (mu, log sigma), each of shape (*batch, 2)."""

    elbo: Tensor
    euclidean: Tensor
    natural: Tensor


def gradients_at(q: Normal, target: Normal) -> Gradients:
    """Euclidean and natural gradient of ELBO = -KL(q || target) in q's parameters (mu, log sigma).

    The natural gradient is the inverse Fisher matrix times the Euclidean one. Computed by autodiff: the Fisher matrix
    in these coordinates is J^T F J, with F that of the natural parameters and J their Jacobian.
    """
    with torch.enable_grad():
        free = torch.stack(q.unconstrained(), dim=-1).detach().requires_grad_()
        elbo = -Normal.from_unconstrained(free.unbind(-1)).kl_divergence(target)
        (euclidean,) = torch.autograd.grad(elbo.sum(), free)

    def natural_parameters(v: Tensor) -> Tensor:
        return Normal.to_minimal(Normal.from_unconstrained(v.unbind(-1)).natural_parameters)

    flat = free.detach().reshape(-1, 2)
    jacobian = torch.func.vmap(torch.func.jacfwd(natural_parameters))(flat).reshape(*free.shape, 2)
    fisher = jacobian.mT @ q.fisher_information() @ jacobian
    return Gradients(elbo.detach(), euclidean, torch.linalg.solve(fisher, euclidean))
