"""The FactorVAE score (Kim and Mnih 2018)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from torch import Tensor

from jensen.metrics.disentanglement.groups import Groups
from jensen.metrics.disentanglement.labelled import Labelled, labelled, split
from jensen.metrics.disentanglement.score import Score

__all__ = ["factor_vae_score"]


def factor_vae_score(
    codes: Tensor | npt.NDArray[np.generic],
    factors: Tensor | npt.NDArray[np.generic],
    *,
    seed: int = 0,
    bins: int = 20,
    discrete: Sequence[bool] | None = None,
    group: int = 64,
    train: int = 10_000,
    evaluation: int = 5_000,
    threshold: float = 0.05,
    active: Sequence[bool] | None = None,
) -> Score:
    """How well the code that varies least in a group of examples tells which factor they share: 1 is best.

    Kim and Mnih 2018: a factor is drawn, then `group` examples that agree in it; the code with the smallest variance in
    the group relative to its variance over all examples votes for the factor. Each code is given the factor that most
    of `train` votes name (majority vote); the score is its accuracy on `evaluation` other votes. 1 / F is chance.

    Collapsed codes, constant up to noise, take no part: those with a standard deviation below `threshold`, which
    belongs to a prior of unit variance (disentanglement_lib compares the standard deviation too), or those that
    `active` names. With none left the score is 0.

    The groups come from the examples given (see `Groups`; disentanglement_lib has a generator of new ones), two thirds
    of them for learning and one third for scoring; with a continuous factor, examples agree that share a bin.

    Args:
        codes: posterior means, (N, D).
        factors: (N, F), F at least 2, see `labelled` for which count as discrete.
        seed: of the draws.
        bins: of each continuous factor.
        discrete: which factors are discrete.
        group: examples of one vote, at least 2.
        train: votes to learn from.
        evaluation: votes to score on.
        threshold: least standard deviation of a code that takes part.
        active: (D,) which codes take part, in place of the threshold; constant ones never do.

    Returns:
        details: train_accuracy, chance, active (D,) bool, votes (D, F) of learning, majority (D,) the factor of each
        code, -1 where it has no vote.

    Raises:
        ValueError: see `labelled` and `Groups`; or too few examples of a vote or votes; `active` of another length.
    """
    if group < 2 or train < 1 or evaluation < 1:
        raise ValueError(
            f"FactorVAE score: need group >= 2, train, evaluation >= 1; got {group}, {train}, {evaluation}"
        )
    data = labelled(
        codes, factors, metric="FactorVAE score", discrete=discrete, bins=bins, least_factors=2, least_examples=30
    )
    if active is not None and len(active) != data.codes.shape[1]:
        raise ValueError(f"FactorVAE score: active should have {data.codes.shape[1]} entries, got {len(active)}")
    spread = data.codes.std(0, ddof=1)
    kept = (spread >= threshold if active is None else np.asarray(active, dtype=bool)) & (
        np.ptp(data.codes, axis=0) > 0
    )
    details = {"train_accuracy": 0.0, "chance": 1.0 / data.factors, "active": kept}
    votes = np.zeros((data.codes.shape[1], data.factors), dtype=np.int64)
    majority = np.full(len(votes), -1)
    if not kept.any():
        return Score(0.0, {**details, "votes": votes, "majority": majority})
    scaled = Labelled(data.codes[:, kept] / spread[kept], data.values, data.classes, data.discrete)
    rng = np.random.default_rng(seed)
    known, held_out = split(scaled, rng)
    votes[kept] = _votes(known, group, train, rng)
    held = np.zeros_like(votes)
    held[kept] = _votes(held_out, group, evaluation, rng)
    choice = votes.argmax(1)
    row = np.arange(len(votes))
    details["train_accuracy"] = float(votes[row, choice].sum() / train)
    details |= {"votes": votes, "majority": np.where(votes.sum(1) > 0, choice, -1)}
    return Score(float(held[row, choice].sum() / evaluation), details)


def _votes(data: Labelled, group: int, n: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """How often each code varied least while each factor was held, (D, F), of n votes."""
    groups = Groups(data.classes, "FactorVAE score")
    votes = np.zeros((data.codes.shape[1], data.factors), dtype=np.int64)
    for factor, which in groups.factor_of_each(n, rng, group):
        rows = groups.alike(factor, len(which), group, rng)
        least = data.codes[rows].var(1).argmin(1)
        votes[:, factor] += np.bincount(least, minlength=len(votes))
    return votes
