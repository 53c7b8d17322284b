"""Codes in few bits come back within half a step, and their bytes are bytes that can be read again."""

from __future__ import annotations

import math
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from jensen.metrics.quantised import packed, quantise, smallest


@settings(max_examples=60, deadline=None)
@given(
    codes=arrays.arrays(
        np.float32,
        st.tuples(st.integers(1, 6), st.integers(1, 4)),
        elements=st.floats(-1000, 1000, width=32, allow_subnormal=False),
    ),
    bits=st.integers(1, 12),
)
def test_the_error_is_at_most_half_a_step(codes: np.ndarray, bits: int) -> None:
    kept = quantise(torch.from_numpy(codes), bits)
    assert kept.levels.min() >= 0
    assert kept.levels.max() < 2**bits
    range_ = codes.astype(np.float64).max(0) - codes.astype(np.float64).min(0)
    np.testing.assert_allclose(kept.step.numpy(), range_ / (2**bits - 1), rtol=1e-6, atol=1e-38)
    error = np.abs(kept.restored().double().numpy() - codes.astype(np.float64))
    rounding = 3e-7 * (np.abs(codes).max() + range_)  # of step, low and result in float32
    assert (error <= 0.5 * kept.step.double().numpy() + rounding).all()


def test_each_dimension_has_its_own_scale_and_constants_are_exact() -> None:
    codes = torch.tensor([[0.0, 100.0, 7.3], [1.0, 300.0, 7.3], [0.6, 210.0, 7.3]])
    kept = quantise(codes, 2)
    assert kept.levels.tolist() == [[0, 0, 0], [3, 3, 0], [2, 2, 0]]
    assert torch.equal(kept.restored()[:2], codes[:2])
    assert torch.equal(kept.restored()[:, 2], codes[:, 2])
    assert kept.scale_bytes == 2 * 3 * 4


def test_levels_on_a_grid_come_back_exactly() -> None:
    levels = torch.arange(256).view(-1, 1, 1).expand(256, 2, 3)
    kept = quantise(levels * 0.5 - 3.0, 8)
    assert torch.equal(kept.levels, levels)
    assert torch.equal(kept.restored(), levels * 0.5 - 3.0)


@pytest.mark.parametrize("bits", [1, 3, 8, 11])
def test_packed_bytes_can_be_read_again(bits: int) -> None:
    levels = torch.randint(2**bits, (7, 5), generator=torch.Generator().manual_seed(0))
    data = packed(levels, bits)
    assert len(data) == math.ceil(35 * bits / 8)
    number = int.from_bytes(data, "big") >> (8 * len(data) - 35 * bits)
    found = [(number >> (bits * (34 - place))) & (2**bits - 1) for place in range(35)]
    assert found == levels.flatten().tolist()


def test_the_smallest_way_depends_on_what_there_is_to_save() -> None:
    noise = torch.randint(16, (1000, 4), generator=torch.Generator().manual_seed(0))
    assert smallest(noise, 4) == (2000, "packed")
    constant = torch.zeros(1000, 4, dtype=torch.int64)
    size, name = smallest(constant, 4)
    assert size < 40
    assert name in ("zlib", "lzma")
    skewed = (torch.rand(4000, 2, generator=torch.Generator().manual_seed(0)) < 0.02).long() * 200
    size, _ = smallest(skewed, 8)
    raw = skewed.T.contiguous().numpy().astype(np.uint8).tobytes()
    assert size <= len(zlib.compress(raw, 9))
    entropy = -(0.02 * math.log2(0.02) + 0.98 * math.log2(0.98)) * 8000 / 8
    assert entropy < size < 2 * entropy
    assert smallest(torch.full((4, 2), 300), 9)[0] <= 9


@pytest.mark.parametrize(
    ("codes", "bits"),
    [
        (torch.zeros(2, 2), 0),
        (torch.zeros(2, 2), 17),
        (torch.zeros(2), 8),
        (torch.zeros(0, 2), 8),
        (torch.tensor([[math.nan]]), 8),
    ],
)
def test_wrong_input(codes: torch.Tensor, bits: int) -> None:
    with pytest.raises(ValueError, match=r"bits should be|finite codes"):
        quantise(codes, bits)
