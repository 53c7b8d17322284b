"""Pictures of the latent space put every code where it belongs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from sklearn.decomposition import PCA

from jensen.plots import kl_per_dimension, latent_space

Words = Callable[[Figure], str]


def points(figure: Figure) -> np.ndarray:
    """All scattered points, over the classes."""
    return np.concatenate([np.asarray(group.get_offsets()) for group in figure.axes[0].collections])


def test_two_dimensions_are_drawn_straight_by_class() -> None:
    labels = torch.arange(60) % 3
    codes = torch.randn(60, 2) + 5.0 * torch.eye(3)[labels, :2]
    figure = latent_space(codes, labels, ("cat", "dog", "owl"))
    for index, group in enumerate(figure.axes[0].collections):
        np.testing.assert_allclose(np.asarray(group.get_offsets()), codes[labels == index].numpy(), rtol=1e-6)
    assert len({tuple(group.get_facecolor()[0][:3]) for group in figure.axes[0].collections}) == 3
    legend = figure.axes[0].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["cat", "dog", "owl"]
    for text, name in zip(figure.axes[0].texts, ("cat", "dog", "owl"), strict=True):
        assert text.get_text() == name
        middle = codes[labels == ("cat", "dog", "owl").index(name)].numpy()
        np.testing.assert_allclose(text.xy, np.median(middle, axis=0), rtol=1e-6)


def test_more_dimensions_go_to_their_principal_components(words: Words) -> None:
    codes = torch.randn(200, 6) * torch.tensor([5.0, 3.0, 1.0, 1.0, 0.5, 0.5])
    codes = codes @ torch.linalg.qr(torch.randn(6, 6))[0]
    figure = latent_space(codes, torch.zeros(200))
    pca = PCA(2).fit(codes.numpy())
    shown = points(figure)
    expected = pca.transform(codes.numpy())
    for column in range(2):
        moved, wanted = shown[:, column] - shown[:, column].mean(), expected[:, column]
        np.testing.assert_allclose(moved * np.sign(moved @ wanted), wanted, atol=1e-4)
    for share in pca.explained_variance_ratio_:
        assert f"{share:.0%} of variance" in words(figure)


def test_the_origin_stays_the_priors_mean() -> None:
    codes = torch.randn(100, 4) * torch.tensor([3.0, 2.0, 0.0, 0.0]) + torch.tensor([7.0, 0.0, 0.0, 0.0])
    shown = points(latent_space(codes, torch.zeros(100)))
    # With all variance in the plane, the projection keeps the length of every code.
    np.testing.assert_allclose(np.linalg.norm(shown, axis=1), codes.norm(dim=1).numpy(), rtol=1e-5)


def test_names_are_no_formulas_and_none_is_hidden() -> None:
    names = (r"$\frac", "US$ and A$", "_hidden")
    figure = latent_space(torch.randn(60, 2), torch.arange(60) % 3, names)
    figure.draw_without_rendering()  # would fail on a broken formula
    legend = figure.axes[0].get_legend()
    assert legend is not None
    assert [text.get_text().strip() for text in legend.get_texts()] == list(names)
    assert not any(text.get_parse_math() for text in (*legend.get_texts(), *figure.axes[0].texts))


def test_long_names_are_shortened_and_stay_out_of_the_picture() -> None:
    axes = latent_space(torch.randn(60, 2), torch.arange(60) % 2, ("a" * 40, "b")).axes[0]
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["a" * 23 + "…", "b"]
    assert not axes.texts


def test_prior_circle_holds_95_percent() -> None:
    circle = latent_space(torch.zeros(3, 2), prior=True).axes[0].patches[0]
    draws = torch.randn(100_000, 2)
    share = (draws.norm(dim=1) < circle.get_radius()).double().mean().item()
    assert share == pytest.approx(0.95, abs=0.004)


@pytest.mark.parametrize("labelled", [True, False])
def test_a_speck_within_the_prior_is_magnified_and_it_says_so(words: Words, labelled: bool) -> None:
    codes = torch.rand(1000, 2) * 0.2 + torch.tensor([1.0, -0.5])
    codes[0] = torch.tensor([-3.0, 0.0])  # one far away does not count
    labels = torch.arange(1000) % 3 if labelled else None
    figure = latent_space(codes, labels, prior=True)
    figure.draw_without_rendering()
    axes = figure.axes[0]
    assert not axes.patches
    assert 0.9 < axes.get_xlim()[0] < 1.01 < 1.19 < axes.get_xlim()[1] < 1.3
    assert -0.6 < axes.get_ylim()[0] < -0.49 < -0.31 < axes.get_ylim()[1] < -0.2
    assert "magnified: 95% of the prior has radius 2.45" in words(figure)


@pytest.mark.parametrize(("size", "circle"), [(0.0, True), (1.2, False), (1.3, True), (9.0, True)])
def test_the_circle_is_drawn_unless_it_is_four_times_as_large(size: float, circle: bool) -> None:
    codes = torch.linspace(-size / 2, size / 2, 2001)[:, None].expand(-1, 2)
    figure = latent_space(codes, torch.arange(2001) % 2, prior=True)
    assert bool(figure.axes[0].patches) is circle
    assert not latent_space(codes, torch.arange(2001) % 2).axes[0].patches


def test_names_stand_in_the_picture_only_where_they_are_apart() -> None:
    labels = torch.arange(300) % 3
    middles = torch.tensor([[0.0, 0.0], [0.3, 0.0], [3.0, 3.0]])
    noise = 0.3 * torch.randn(300, 2, generator=torch.Generator().manual_seed(0))
    assert not latent_space(middles[labels] + noise, labels).axes[0].texts
    assert len(latent_space(5 * middles[labels] + noise, labels).axes[0].texts) == 3
    legend = latent_space(middles[labels] + noise, labels).axes[0].get_legend()
    assert legend is not None
    assert len(legend.get_texts()) == 3


def test_without_labels_colour_counts() -> None:
    figure = latent_space(torch.randn(500, 2))
    assert figure.axes[0].collections[0].get_array().sum() == 500
    assert figure.axes[1].get_ylabel() == "codes in a cell"


def test_one_dimension_is_a_histogram() -> None:
    codes = torch.randn(300, 1)
    plain = latent_space(codes)
    assert sum(bar.get_height() for bar in plain.axes[0].patches) == 300
    stacked = latent_space(codes, torch.arange(300) % 2, ("a", "b"))
    assert len(stacked.axes[0].patches) == 80


def test_many_classes_get_a_colour_bar_and_twenty_do_not() -> None:
    codes = torch.randn(420, 2)
    assert latent_space(codes, torch.arange(420) % 21).axes[1].get_ylabel() == "class index"
    figure = latent_space(codes, torch.arange(420) % 20)
    looks = {(tuple(group.get_facecolor()[0][:3]), len(group.get_paths()[0])) for group in figure.axes[0].collections}
    assert len(looks) == 20  # colour and shape together tell all apart


def test_of_too_many_codes_some_are_drawn_and_it_says_so(words: Words) -> None:
    figure = latent_space(torch.randn(12_000, 2), torch.arange(12_000) % 2)
    assert len(points(figure)) == 4_000
    assert "4,000 of 12,000 codes" in words(figure)


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_a_single_code_is_drawn(dimensions: int) -> None:
    figure = latent_space(torch.ones(1, dimensions), torch.zeros(1))
    figure.draw_without_rendering()
    if dimensions == 1:
        assert sum(bar.get_height() for bar in figure.axes[0].patches) > 0
    else:
        assert points(figure).shape == (1, 2)


def test_kl_bars_are_sorted_and_marked() -> None:
    figure = kl_per_dimension([0.001, 2.0, 0.5, 0.0])
    bars = sorted(figure.axes[0].containers[0].patches + figure.axes[0].containers[1].patches, key=lambda b: b.get_x())
    assert [bar.get_height() for bar in bars] == [2.0, 0.5, 0.001, 0.0]
    assert [bar.get_hatch() is None for bar in bars] == [True, True, False, False]
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["1", "2", "0", "3"]
    assert "2 of 4 active" in figure.axes[0].get_title("left")
    assert "nats" in figure.axes[0].get_ylabel()


def test_kl_takes_the_callers_word_for_active() -> None:
    figure = kl_per_dimension(torch.tensor([3.0, 2.0, 1.0]), torch.tensor([True, False, True]))
    assert "2 of 3 active" in figure.axes[0].get_title("left")
    assert sorted(len(group.patches) for group in figure.axes[0].containers) == [1, 2]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: latent_space(torch.randn(5)), "2 dimension"),
        (lambda: latent_space(torch.full((5, 2), torch.inf)), "finite"),
        (lambda: latent_space(torch.randn(5, 2), torch.zeros(4)), r"one entry a code \(5\)"),
        (lambda: latent_space(torch.randn(2, 2), torch.tensor([0.5, 1.0])), "class indices"),
        (lambda: latent_space(torch.randn(2, 2), torch.tensor([-1, 1])), "class indices"),
        (lambda: latent_space(torch.randn(2, 2), torch.tensor([0, 3]), ("a", "b")), "only 2 entries"),
        (lambda: kl_per_dimension(torch.ones(2, 2)), "1 dimension"),
        (lambda: kl_per_dimension([]), "not be empty"),
        (lambda: kl_per_dimension([1.0, float("nan")]), "finite"),
        (lambda: kl_per_dimension([1.0, 2.0], [True]), r"one entry a dimension \(2\)"),
    ],
)
def test_wrong_input_is_refused(call: Callable[[], Figure], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
