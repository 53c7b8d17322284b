"""Transforms against the probabilities and densities that they should have."""

from __future__ import annotations

import pytest
import torch

from jensen.data.transform import StaticBits, Transform, binarise, dequantise, static_binarise
from jensen.errors import ConfigError


def test_binarise_draws_with_the_right_chances() -> None:
    p = torch.tensor([0.0, 0.1, 0.5, 0.9, 1.0]).repeat(200_000, 1)
    drawn = binarise(p, torch.Generator().manual_seed(0))
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    share = drawn.mean(0)
    assert share[0] == 0.0
    assert share[-1] == 1.0
    error = (p[0] * (1 - p[0]) / len(p)).sqrt()
    assert torch.all((share - p[0]).abs() <= 4 * error)


def test_binarise_obeys_its_generator() -> None:
    p = torch.full((1000,), 0.5)
    first, second = (binarise(p, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, binarise(p, torch.Generator().manual_seed(2)))


def test_binarise_never_lights_a_black_pixel(monkeypatch: pytest.MonkeyPatch) -> None:
    for extreme in (0.0, 1.0 - 2.0**-24):
        monkeypatch.setattr(torch, "rand", lambda shape, value=extreme, **_: torch.full(shape, value))
        assert binarise(torch.tensor([0.0, 1.0])).tolist() == [0.0, 1.0]


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_dequantise_spreads_each_level_over_its_own_bin(levels: int) -> None:
    values = torch.arange(levels, dtype=torch.uint8).repeat(5000, 1)
    x = dequantise(values, levels, torch.Generator().manual_seed(0))
    assert x.min() >= 0.0
    assert x.max() < 1.0
    assert torch.equal((x.double() * levels).floor().to(torch.uint8), values)
    # mean (v + 1/2) / levels, variance 1 / (12 levels^2)
    middle = (torch.arange(levels) + 0.5) / levels
    error = 1.0 / (levels * (12.0 * len(x)) ** 0.5)
    assert torch.all((x.mean(0) - middle).abs() < 5 * error)
    assert torch.allclose(x.var(0) * 12 * levels**2, torch.ones(levels), atol=0.1)


@pytest.mark.parametrize("levels", [2, 17, 100, 256])
def test_dequantise_keeps_to_the_bin_for_the_largest_noise(levels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "rand", lambda shape, **_: torch.full(shape, 1.0 - 2.0**-24))
    values = torch.arange(levels, dtype=torch.uint8)
    assert torch.equal((dequantise(values, levels).double() * levels).floor().to(torch.uint8), values)


def test_static_bits_depend_on_the_image_alone() -> None:
    grey = torch.randint(0, 17, (300, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    whole = static_binarise(grey, 17)
    assert isinstance(whole, torch.Tensor)
    assert whole.dtype == torch.uint8
    lazy = StaticBits(grey, 17)
    assert len(lazy) == 300
    order = torch.randperm(300, generator=torch.Generator().manual_seed(1))
    assert torch.equal(lazy[order], whole[order])
    assert torch.equal(lazy[torch.tensor([5])][0], whole[5])
    assert lazy[torch.tensor([], dtype=torch.int64)].shape == (0, 1, 8, 8)
    assert not torch.equal(StaticBits(grey, 17, seed=1)[order], lazy[order])


def test_static_bits_of_a_lazy_source_stay_lazy() -> None:
    grey = torch.full((4, 1, 2, 2), 3, dtype=torch.uint8)
    inner = StaticBits(grey, 17)
    assert isinstance(static_binarise(inner, 2), StaticBits)


def test_static_bits_have_the_right_chances() -> None:
    grey = torch.arange(256, dtype=torch.uint8).repeat(20_000, 1)
    share = static_binarise(grey, 256)[:].double().mean(0)
    p = torch.arange(256).double() / 255
    assert share[0] == 0.0
    assert share[-1] == 1.0
    z = (share - p)[1:-1] / (p * (1 - p) / 20_000).sqrt()[1:-1]
    assert z.abs().max() < 4.5
    assert 0.7 < z.std() < 1.3  # neither too regular nor too wild
    assert torch.all(static_binarise(torch.full((50, 100), 100, dtype=torch.uint8), 256)[:].double().mean(1) < 0.7)


def test_static_bits_of_neighbours_are_independent() -> None:
    half = torch.full((2000, 100), 1, dtype=torch.uint8)
    bits = static_binarise(half, 3)[:].double() * 2 - 1
    for product in (bits[1:] * bits[:-1], bits[:, 1:] * bits[:, :-1]):
        assert abs(float(product.mean())) < 4.5 / product.numel() ** 0.5


def test_none_scales_to_the_unit_interval() -> None:
    stored = torch.tensor([[0, 8, 16]], dtype=torch.uint8)
    assert Transform("none", 17)(stored).tolist() == [[0.0, 0.5, 1.0]]
    assert Transform("none", 256)(torch.arange(256, dtype=torch.uint8)).tolist() == [
        float(torch.tensor(v / 255, dtype=torch.float32)) for v in range(256)
    ]


@pytest.mark.parametrize("name", ["none", "binarise", "binarise-static"])
def test_binary_data_stays_as_it_is(name: str) -> None:
    stored = torch.tensor([[0, 1, 1, 0]], dtype=torch.uint8)
    assert Transform(name, 2)(stored).tolist() == [[0.0, 1.0, 1.0, 0.0]]  # type: ignore[arg-type]


def test_tables_are_standardised() -> None:
    transform = Transform("none", None, torch.tensor([1.0, -2.0]), torch.tensor([2.0, 4.0]))
    assert transform(torch.tensor([[3.0, 2.0]])).tolist() == [[1.0, 1.0]]
    assert Transform("none", None)(torch.tensor([[3.0]])).tolist() == [[3.0]]


@pytest.mark.parametrize("name", ["binarise", "binarise-static", "dequantise"])
def test_continuous_values_refuse_grey_level_transforms(name: str) -> None:
    with pytest.raises(ConfigError, match=f"data.transform: {name} needs images with grey levels"):
        Transform(name, None)  # type: ignore[arg-type]
