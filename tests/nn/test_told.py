"""Embeddings of conditions."""

from __future__ import annotations

import pytest
import torch

from jensen.config import NetConfig
from jensen.nn.told import Embedding


@pytest.mark.parametrize(
    ("shape", "conditioning", "size"),
    [
        ((7,), "concat", 7),
        ((7,), "embedding", 16),
        ((7,), "film", 16),
        ((1, 5, 5), "concat", 64),
        ((2, 5, 4), "film", 64),
    ],
)
def test_embeddings_have_the_size_they_say(shape: tuple[int, ...], conditioning: str, size: int) -> None:
    embedding = Embedding(NetConfig(), shape, conditioning)
    assert embedding.size == size
    assert embedding(torch.rand(3, *shape)).shape == (3, size)
    if conditioning == "concat" and len(shape) == 1:
        condition = torch.rand(3, *shape)
        assert torch.equal(embedding(condition), condition)
