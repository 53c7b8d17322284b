"""Pictures of draws show these draws, and refuse those that do not belong together."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from jensen.plots import png
from jensen.plots.posterior import elbo_trace, pairs, prior_posterior

Words = Callable[[Figure], str]
GENERATOR = np.random.default_rng(0)


# --- the bound --------------------------------------------------------------------------------------------------------


def test_a_short_trace_is_drawn_whole_and_its_last_half_again() -> None:
    trace = [-100.0, -40.0, -38.0, -37.5, -37.4, -37.4]
    whole, last = elbo_trace(trace, final=-39.0, error=0.5).axes
    np.testing.assert_allclose(whole.lines[0].get_xydata(), list(enumerate(trace, 1)))
    np.testing.assert_allclose(last.lines[0].get_xydata(), list(enumerate(trace, 1))[3:])
    np.testing.assert_allclose(last.lines[1].get_ydata(), [-39.0, -39.0])
    low, high = last.get_ylim()
    assert low <= -40.5
    assert high >= -37.4


def test_a_noisy_trace_has_its_running_mean_and_gaps_where_it_was_not_finite(words: Words) -> None:
    trace = np.arange(1_000.0)
    trace[600] = np.nan
    trace[3] = -np.inf
    figure = elbo_trace(trace, converged=False)
    raw, mean = figure.axes[0].lines
    assert np.isnan(np.asarray(raw.get_ydata())[[3, 600]]).all()
    x, y = np.asarray(mean.get_xydata()).T
    full = x[-100:]  # far from the gaps: the mean over the last 20 values of the line y = x - 1
    np.testing.assert_allclose(y[-100:], full - 1 - 9.5)
    assert "NOT CONVERGED" in words(figure)
    assert "NOT CONVERGED" not in words(elbo_trace(np.arange(9.0)))


def test_a_trace_without_numbers_is_refused() -> None:
    with pytest.raises(ValueError, match="all 3 are NaN"):
        elbo_trace([float("nan")] * 3)
    with pytest.raises(ValueError, match="not be empty"):
        elbo_trace([])


# --- pairs ------------------------------------------------------------------------------------------------------------


def test_pairs_draw_points_below_counts_on_and_correlations_above_the_diagonal(words: Words) -> None:
    a = GENERATOR.normal(size=500)
    draws = {"a": a, "b[0]": -a, "c": torch.from_numpy(GENERATOR.normal(size=500))}
    figure = pairs(draws)
    assert len(figure.axes) == 9
    np.testing.assert_allclose(figure.axes[3].collections[0].get_offsets(), np.stack([a, -a], 1))
    assert "−1.00" in [text.get_text() for text in figure.axes[1].texts]
    assert figure.axes[3].get_ylabel() == "b[0]"
    assert "b[0]" in words(figure)
    assert png(figure).startswith(b"\x89PNG")


def test_other_draws_are_laid_over_in_their_own_colour(words: Words) -> None:
    draws = {name: GENERATOR.normal(size=300) for name in ("x", "y")}
    other = {name: GENERATOR.normal(size=200) + 5 for name in ("y", "x", "unused")}
    figure = pairs(draws, other, labels=("q", "_reweighted"))
    clouds = figure.axes[2].collections
    np.testing.assert_allclose(clouds[1].get_offsets(), np.stack([other["x"], other["y"]], 1))
    assert figure.axes[2].get_xlim()[1] > 6
    assert {"q", " _reweighted"} <= set(words(figure).split("\n"))


def test_of_many_names_the_first_eight_are_drawn(words: Words) -> None:
    figure = pairs({f"z[{i}]": GENERATOR.normal(size=30) for i in range(11)})
    assert len(figure.axes) == 64
    assert "first 8 of 11" in words(figure)


def test_constant_draws_are_no_fault(words: Words) -> None:
    assert "constant" in words(pairs({"a": np.ones(20), "b": np.arange(20.0)}))


def test_draws_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(ValueError, match="as many draws of every number"):
        pairs({"a": np.ones(3), "b": np.ones(4)})
    with pytest.raises(ValueError, match="other has no draws of 'a'"):
        pairs({"a": np.ones(3)}, {"b": np.ones(3)})
    with pytest.raises(ValueError, match="at least one number"):
        pairs({})
    with pytest.raises(ValueError, match=r"draws\['a'\] should be finite"):
        pairs({"a": [1.0, float("nan")]})


# --- prior and posterior ----------------------------------------------------------------------------------------------


def test_panels_hold_densities_of_both_and_the_ratio_of_their_widths(words: Words) -> None:
    levels = (np.arange(4_000) + 0.5) / 4_000
    figure = prior_posterior({"a": levels * 8 - 4, "b": levels}, {"b": levels * 2, "a": levels, "c": levels})
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["b", "a"]
    said = words(figure)
    assert "8.0× narrower" in said
    assert "2.0× wider" in said
    for patch, width in zip(figure.axes[1].patches, (8.0, 1.0), strict=True):
        heights, edges, _ = patch.get_data()
        inside = heights[(edges[:-1] > 0.1) & (edges[1:] < 0.9)]
        np.testing.assert_allclose(inside, 1 / width, rtol=0.03)


def test_a_prior_that_is_far_wider_does_not_hide_the_posterior() -> None:
    figure = prior_posterior({"a": GENERATOR.normal(size=5_000) * 1e4}, {"a": GENERATOR.normal(size=5_000)})
    low, high = figure.axes[0].get_xlim()
    assert 10 < high - low < 40
    heights, edges, _ = figure.axes[0].patches[0].get_data()
    np.testing.assert_allclose((heights * np.diff(edges)).sum(), (high - low) / (1e4 * np.sqrt(2 * np.pi)), rtol=0.6)


def test_priors_without_a_posterior_are_refused() -> None:
    with pytest.raises(ValueError, match="share no name"):
        prior_posterior({"a": np.ones(3)}, {"b": np.ones(3)})
    with pytest.raises(ValueError, match="prior has no draws of 'b'"):
        prior_posterior({"a": np.ones(3)}, {"b": np.ones(3)}, names=["b"])
