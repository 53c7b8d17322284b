"""posteriordb's linear regressions: y ~ N(X beta, sigma), one row of X for each datum."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.distributions import HalfCauchy, HalfNormal, Normal

from benchmarks.models.case import Case, with_rows
from jensen.inference.model import Values
from jensen.inference.supports import positive, real

__all__ = ["MAKERS"]

Design: TypeAlias = Callable[[Values], tuple[Tensor, list[Tensor]]]
"""data -> outcome and columns after the constant one"""


def flat(z: Any, data: Any) -> dict[str, Tensor]:
    """No prior: the posterior is Student's t about least squares, sigma^2 is inverse gamma."""
    return {"likelihood": Normal(data.x @ z.beta, z.sigma).log_prob(data.y)}


def half_cauchy(z: Any, data: Any) -> dict[str, Tensor]:
    """beta flat, sigma ~ HalfCauchy(2.5)."""
    return {"prior": HalfCauchy(2.5).log_prob(z.sigma), **flat(z, data)}


def shrunken(z: Any, data: Any) -> dict[str, Tensor]:
    """beta ~ N(0, 10), sigma ~ HalfNormal(10)."""
    prior = Normal(0.0, 10.0).log_prob(z.beta).sum() + HalfNormal(10.0).log_prob(z.sigma)
    return {"prior": prior, **flat(z, data)}


def informed(z: Any, data: Any) -> dict[str, Tensor]:
    """alpha and beta with the priors that come with the data, sigma flat."""
    alpha = Normal(data.pmualpha, data.psalpha).log_prob(z.alpha)
    beta = Normal(data.pmubeta, data.psbeta).log_prob(z.beta)
    return {"prior": alpha + beta, "likelihood": Normal(z.alpha + z.beta * data.x, z.sigma).log_prob(data.y)}


def _earn_height(d: Values) -> tuple[Tensor, list[Tensor]]:
    return d.earn, [d.height]


def _log10earn_height(d: Values) -> tuple[Tensor, list[Tensor]]:
    return d.earn.log10(), [d.height]


def _logearn_height(d: Values) -> tuple[Tensor, list[Tensor]]:
    return d.earn.log(), [d.height]


def _logearn_height_male(d: Values) -> tuple[Tensor, list[Tensor]]:
    return d.earn.log(), [d.height, d.male]


def _logearn_interaction(d: Values) -> tuple[Tensor, list[Tensor]]:
    return d.earn.log(), [d.height, d.male, d.height * d.male]


def _logearn_interaction_z(d: Values) -> tuple[Tensor, list[Tensor]]:
    z = (d.height - d.height.mean()) / d.height.std()
    return d.earn.log(), [z, d.male, z * d.male]


def _kidscore_momhs(d: Values) -> tuple[Tensor, list[Tensor]]:
    return d.kid_score, [d.mom_hs]


def _kidscore_momiq(d: Values) -> tuple[Tensor, list[Tensor]]:
    return d.kid_score, [d.mom_iq]


def _kidscore_momhsiq(d: Values) -> tuple[Tensor, list[Tensor]]:
    return d.kid_score, [d.mom_hs, d.mom_iq]


def _kidscore_interaction_c(d: Values) -> tuple[Tensor, list[Tensor]]:
    h, q = d.mom_hs - d.mom_hs.mean(), d.mom_iq - d.mom_iq.mean()
    return d.kid_score, [h, q, h * q]


def _kidscore_interaction_c2(d: Values) -> tuple[Tensor, list[Tensor]]:
    h, q = d.mom_hs - 0.5, d.mom_iq - 100.0
    return d.kid_score, [h, q, h * q]


def _kidscore_interaction_z(d: Values) -> tuple[Tensor, list[Tensor]]:
    h, q = ((x - x.mean()) / (2.0 * x.std()) for x in (d.mom_hs, d.mom_iq))
    return d.kid_score, [h, q, h * q]


def _kidscore_mom_work(d: Values) -> tuple[Tensor, list[Tensor]]:
    return d.kid_score, [d.mom_work == level for level in (2, 3, 4)]


def _mesquite(d: Values) -> tuple[Tensor, list[Tensor]]:
    return d.weight, [d.diam1, d.diam2, d.canopy_height, d.total_height, d.density, d.group]


def _logmesquite(d: Values) -> tuple[Tensor, list[Tensor]]:
    measured = (d.diam1, d.diam2, d.canopy_height, d.total_height, d.density)
    return d.weight.log(), [*(x.log() for x in measured), d.group]


def _logmesquite_logvolume(d: Values) -> tuple[Tensor, list[Tensor]]:
    return d.weight.log(), [(d.diam1 * d.diam2 * d.canopy_height).log()]


def _logmesquite_logva(d: Values) -> tuple[Tensor, list[Tensor]]:
    area = d.diam1 * d.diam2
    return d.weight.log(), [(area * d.canopy_height).log(), area.log(), d.group]


def _logmesquite_logvas(d: Values) -> tuple[Tensor, list[Tensor]]:
    area, shape = d.diam1 * d.diam2, d.diam1 / d.diam2
    logs = [x.log() for x in (area * d.canopy_height, area, shape, d.total_height, d.density)]
    return d.weight.log(), [*logs, d.group]


def _nes(d: Values) -> tuple[Tensor, list[Tensor]]:
    ages = [d.age_discrete == level for level in (2, 3, 4)]
    return d.partyid7, [d.real_ideo, d.race_adj, *ages, d.educ1, d.gender, d.income]


def _tensors(data: Mapping[str, Any]) -> Values:
    return Values({name: torch.as_tensor(value, dtype=torch.float64) for name, value in data.items()})


def _with_constant(design: Design, log_joint: Callable[[Any, Any], dict[str, Tensor]]) -> Callable[..., Case]:
    def make(data: Mapping[str, Any]) -> Case:
        y, columns = design(_tensors(data))
        x = torch.stack([torch.ones_like(y), *(column.to(y.dtype) for column in columns)], 1)
        latents = {"beta": real(x.shape[1]), "sigma": positive()}
        return Case(with_rows(latents, log_joint, len(y)), {"x": x, "y": y}, log_joint.__name__)

    return make


def _blr(data: Mapping[str, Any]) -> Case:
    d = _tensors(data)
    latents = {"beta": real(d.X.shape[1]), "sigma": positive()}
    return Case(with_rows(latents, shrunken, len(d.y)), {"x": d.X, "y": d.y}, "shrunken")


def _kilpisjarvi(data: Mapping[str, Any]) -> Case:
    d = _tensors(data)
    read = {name: d[name] for name in ("x", "y", "pmualpha", "psalpha", "pmubeta", "psbeta")}
    latents = {"alpha": real(), "beta": real(), "sigma": positive()}
    return Case(with_rows(latents, informed, len(d.y)), read, "informed")


MAKERS: dict[str, Callable[[Mapping[str, Any]], Case]] = {
    "earn_height": _with_constant(_earn_height, flat),
    "log10earn_height": _with_constant(_log10earn_height, flat),
    "logearn_height": _with_constant(_logearn_height, flat),
    "logearn_height_male": _with_constant(_logearn_height_male, flat),
    "logearn_interaction": _with_constant(_logearn_interaction, flat),
    "logearn_interaction_z": _with_constant(_logearn_interaction_z, flat),
    "kidscore_momhs": _with_constant(_kidscore_momhs, half_cauchy),
    "kidscore_momiq": _with_constant(_kidscore_momiq, half_cauchy),
    "kidscore_momhsiq": _with_constant(_kidscore_momhsiq, half_cauchy),
    "kidscore_interaction_c": _with_constant(_kidscore_interaction_c, flat),
    "kidscore_interaction_c2": _with_constant(_kidscore_interaction_c2, flat),
    "kidscore_interaction_z": _with_constant(_kidscore_interaction_z, flat),
    "kidscore_mom_work": _with_constant(_kidscore_mom_work, flat),
    "mesquite": _with_constant(_mesquite, flat),
    "logmesquite": _with_constant(_logmesquite, flat),
    "logmesquite_logvolume": _with_constant(_logmesquite_logvolume, flat),
    "logmesquite_logva": _with_constant(_logmesquite_logva, flat),
    "logmesquite_logvas": _with_constant(_logmesquite_logvas, flat),
    "nes": _with_constant(_nes, flat),
    "blr": _blr,
    "kilpisjarvi": _kilpisjarvi,
}
