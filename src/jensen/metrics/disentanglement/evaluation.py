"""All metrics of disentanglement at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from jensen.metrics.disentanglement.beta_vae import beta_vae_score
from jensen.metrics.disentanglement.dci import dci
from jensen.metrics.disentanglement.factor_vae import factor_vae_score
from jensen.metrics.disentanglement.irs import irs
from jensen.metrics.disentanglement.labelled import as_array, checked_codes, equal_width_bins, labelled
from jensen.metrics.disentanglement.mig import mig
from jensen.metrics.disentanglement.modularity_explicitness import explicitness, modularity
from jensen.metrics.disentanglement.mutual_information import entropies, mutual_information
from jensen.metrics.disentanglement.sap import sap
from jensen.metrics.disentanglement.score import Score
from jensen.metrics.disentanglement.udr import INFORMATIVE

__all__ = ["Disentanglement", "evaluate_disentanglement"]

LEAST_EXAMPLES = 100

# name: (function, fewest factors, fewest codes)
METRICS: dict[str, tuple[Callable[..., Score], int, int]] = {
    "MIG": (mig, 1, 2),
    "SAP": (sap, 1, 2),
    "DCI": (dci, 2, 1),
    "modularity": (modularity, 2, 1),
    "explicitness": (explicitness, 1, 1),
    "IRS": (irs, 1, 1),
    "beta-VAE score": (beta_vae_score, 2, 1),
    "FactorVAE score": (factor_vae_score, 2, 1),
}

# name of a row: (metric, detail or None for its value, meaning)
ROWS: dict[str, tuple[str, str | None, str]] = {
    "MIG": (
        "MIG",
        None,
        "gap in information between the best two codes of a factor; punishes a factor spread over codes",
    ),
    "SAP": ("SAP", None, "gap in predictive power between the best two codes of a factor"),
    "DCI disentanglement": ("DCI", None, "each code serves one factor (random forest importances)"),
    "DCI completeness": ("DCI", "completeness", "each factor is served by one code"),
    "DCI informativeness": ("DCI", "informativeness", "all codes together predict the factors (random forest)"),
    "modularity": ("modularity", None, "each code tells of one factor; unused codes pull it down"),
    "explicitness": ("explicitness", None, "all codes together tell the factors linearly (area under the ROC curve)"),
    "IRS": ("IRS", None, "a code stays where it is while other factors change"),
    "beta-VAE score": ("beta-VAE score", None, "differences of codes tell linearly which factor two examples share"),
    "FactorVAE score": ("FactorVAE score", None, "the code that varies least tells which factor examples share"),
}


@dataclass(frozen=True)
class Disentanglement:
    """What `evaluate_disentanglement` found.

    Attributes:
        examples: N.
        factor_names: of the factors that vary, in the order of the columns of every matrix.
        scores: by the metric's name, without those that could not be computed (see notes).
        mutual_information: of codes and factors in nats, (D, F), from histograms.
        entropy: of each factor in nats, (F,).
        kl_per_dimension: of each code in nats, (D,), if it was given.
        notes: what was left out and why.
    """

    examples: int
    factor_names: list[str]
    scores: dict[str, Score]
    mutual_information: npt.NDArray[np.float64]
    entropy: npt.NDArray[np.float64]
    kl_per_dimension: npt.NDArray[np.float64] | None
    notes: list[str]

    def values(self) -> dict[str, float]:
        """Each row of the table by its name, as a number."""
        found = {}
        for name, (metric, detail, _) in ROWS.items():
            if metric in self.scores:
                score = self.scores[metric]
                found[name] = score.value if detail is None else float(score.details[detail])
        return found

    def table(self) -> list[tuple[str, str, str, str]]:
        """Rows (name, value, meaning, range); higher is better everywhere."""
        values = self.values()
        return [
            (name, f"{values[name]:.3f}", meaning, self._range(name))
            for name, (_, _, meaning) in ROWS.items()
            if name in values
        ]

    def _range(self, name: str) -> str:
        if name == "explicitness":
            return "0.5 (chance) to 1"
        if name in ("beta-VAE score", "FactorVAE score"):
            return f"{1 / len(self.factor_names):.2f} (chance) to 1"
        return "0 to 1"

    def to_dict(self) -> dict[str, Any]:
        """As plain values: the rows, what they were made from, and the matrix."""
        return {
            "examples": self.examples,
            "factor_names": list(self.factor_names),
            "values": self.values(),
            "scores": {name: score.to_dict() for name, score in self.scores.items()},
            "mutual_information": self.mutual_information.tolist(),
            "entropy": self.entropy.tolist(),
            "kl_per_dimension": None if self.kl_per_dimension is None else self.kl_per_dimension.tolist(),
            "notes": list(self.notes),
        }


def evaluate_disentanglement(
    codes: Tensor | npt.NDArray[np.generic],
    factors: Tensor | npt.NDArray[np.generic],
    factor_names: Sequence[str] | None = None,
    kl_per_dimension: Tensor | npt.NDArray[np.generic] | None = None,
    *,
    seed: int = 0,
    discrete: Sequence[bool] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Disentanglement:
    """Every metric that needs labels, of the same examples; the same seed gives the same numbers.

    Factors that do not vary are left out, and metrics that need more factors or codes than there are; notes say so.

    Args:
        codes: posterior means, (N, D), N at least 100; some thousands to mean much.
        factors: (N, F), int64 (discrete) or float (continuous if there are more than 20 values).
        factor_names: F names; None: factor 0, factor 1, ...
        kl_per_dimension: (D,) in nats; codes of no more than 0.01 nats count as collapsed for the FactorVAE score,
            in place of a threshold on their standard deviation.
        seed: of all metrics.
        discrete: which factors are discrete, one truth value a factor.
        progress: called as progress(metrics done, metrics).

    Raises:
        ValueError: codes that are not finite, too few examples, no factor that varies, or lengths that do not fit.
    """
    z, y, names, kl = _checked(codes, factors, factor_names, kl_per_dimension)
    if discrete is not None and len(discrete) != len(names):
        raise ValueError(f"disentanglement: {len(names)} factors, but discrete is {discrete}")
    varies = [bool((y[:, i] != y[0, i]).any()) for i in range(y.shape[1])]
    if not any(varies):
        raise ValueError(f"disentanglement: none of the factors {names} varies in these {len(z)} examples")
    notes = [f"{name} does not vary and is left out" for name, v in zip(names, varies, strict=True) if not v]
    y = y[:, varies]
    kinds = None if discrete is None else [bool(d) for d, v in zip(discrete, varies, strict=True) if v]
    scores: dict[str, Score] = {}
    for done, (name, (metric, least_factors, least_codes)) in enumerate(METRICS.items()):
        options = {"active": kl > INFORMATIVE} if metric is factor_vae_score and kl is not None else {}
        if y.shape[1] < least_factors or z.shape[1] < least_codes:
            need = f"{least_factors} factors" if y.shape[1] < least_factors else f"{least_codes} codes"
            notes.append(f"{name} is left out: it needs {need}")
        else:
            scores[name] = metric(z, y, seed=seed, discrete=kinds, **options)
        if progress is not None:
            progress(done + 1, len(METRICS))
    data = labelled(z, y, metric="disentanglement", discrete=kinds)
    return Disentanglement(
        examples=len(z),
        factor_names=[name for name, v in zip(names, varies, strict=True) if v],
        scores=scores,
        mutual_information=mutual_information(equal_width_bins(data.codes, 20), data.classes),
        entropy=entropies(data.classes),
        kl_per_dimension=kl,
        notes=notes,
    )


def _checked(
    codes: Tensor | npt.NDArray[np.generic],
    factors: Tensor | npt.NDArray[np.generic],
    factor_names: Sequence[str] | None,
    kl_per_dimension: Tensor | npt.NDArray[np.generic] | None,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.generic], list[str], npt.NDArray[np.float64] | None]:
    """Codes, factors, names and KLs as arrays of shapes that fit; ValueError where they do not."""
    z, y = checked_codes(codes, "disentanglement"), as_array(factors)
    if y.ndim != 2 or len(y) != len(z) or y.shape[1] == 0:
        raise ValueError(f"disentanglement: factors should be (examples, factors) of {len(z)} examples, got {y.shape}")
    if len(z) < LEAST_EXAMPLES:
        raise ValueError(f"disentanglement needs at least {LEAST_EXAMPLES} examples, got {len(z)}: encode more")
    names = [f"factor {i}" for i in range(y.shape[1])] if factor_names is None else list(factor_names)
    if len(names) != y.shape[1]:
        raise ValueError(f"disentanglement: {y.shape[1]} factors, but names {names}")
    kl = None if kl_per_dimension is None else as_array(kl_per_dimension).astype(np.float64)
    if kl is not None and kl.shape != (z.shape[1],):
        raise ValueError(f"disentanglement: {z.shape[1]} codes, but KLs of shape {kl.shape}")
    return z, y, names, kl
