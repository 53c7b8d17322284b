"""The summary names the objective, with its knobs, in words."""

from __future__ import annotations

import pytest

from jensen.config import KNOBS, ObjectiveConfig, Schedule
from jensen.report.choices import objective


def test_the_plain_elbo_needs_no_words() -> None:
    assert objective(ObjectiveConfig(), 10, 784) == ""


@pytest.mark.parametrize("kind", [kind for kind in KNOBS if kind != "elbo"])
def test_every_knob_is_named_with_its_value(kind: str) -> None:
    config = ObjectiveConfig(kind=kind)
    text = objective(config, 10, 784)
    for name in KNOBS[kind]:
        value = getattr(config, name)
        shown = f"{value:g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else value
        assert f"{name.replace('_', ' ')} {shown}" in text
    assert text.startswith(" The objective is ")
    assert text.endswith(".")


def test_beta_is_also_said_as_papers_normalise_it() -> None:
    # Higgins et al. 2017, section 2.1: beta_norm = beta M / N, M latents, N pixels.
    text = objective(ObjectiveConfig(kind="beta", beta=4.0), 10, 4096)
    assert f"beta × latents / values is {4 * 10 / 4096:.3g}" in text


@pytest.mark.parametrize(
    ("weight", "words"),
    [
        (Schedule(end=0.5), "the code's price has weight 0.5"),
        (Schedule(kind="linear", steps=2000), "goes from 0 to 1 over 2,000 steps (linear)"),
        (Schedule(kind="cyclical", steps=500), "over 500 steps in 4 cycles (cyclical)"),
    ],
)
def test_a_weight_that_moves_is_said(weight: Schedule, words: str) -> None:
    assert words in objective(ObjectiveConfig(kl_weight=weight), 10, 784)


def test_samples_are_said() -> None:
    assert "5 samples of z an example" in objective(ObjectiveConfig(kind="iwae", samples=5), 10, 784)
