"""Batches: every example once, in an order that can be repeated, resumed and shared out."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from jensen.config import DataConfig
from jensen.data import Batch, Data, Dataset, Split, prepare
from jensen.errors import ConfigError

N = 103


class Lazy:
    """A source that is no tensor."""

    def __init__(self, values: torch.Tensor) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: torch.Tensor, /) -> torch.Tensor:
        return self.values[index]


def data(lazy: bool = False, **settings: object) -> Data:
    """Image i is i everywhere; its label is i mod 3, its factor i, its target i / 10."""
    count = N + 20
    values = torch.arange(count, dtype=torch.uint8)[:, None, None, None].expand(count, 1, 2, 2).contiguous()
    dataset = Dataset(
        name="counting",
        values=Lazy(values) if lazy else values,
        shape=(1, 2, 2),
        levels=256,
        train=torch.arange(N).flip(0),
        valid=torch.arange(N, N + 10),
        test=torch.arange(N + 10, count),
        labels=torch.arange(count) % 3,
        class_names=("a", "b", "c"),
        factors=torch.arange(count)[:, None],
        factor_names=("i",),
        targets={
            "tenth": torch.arange(count, dtype=torch.float32)[:, None] / 10,
            "odd": (torch.arange(count)[:, None] % 2).float(),
        },
    )
    return prepare(dataset, DataConfig(**({"name": "counting", "transform": "none"} | settings)))


def split(**settings: object) -> Split:
    return data(**settings).train  # type: ignore[arg-type]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def order(batches: object) -> list[int]:
    return [int(i) for batch in batches for i in batch.index]  # type: ignore[attr-defined]


@pytest.mark.parametrize("lazy", [False, True])
def test_a_batch_belongs_together(lazy: bool) -> None:
    train = split(lazy=lazy)
    for batch in train.batches(10, shuffle=seeded()):
        stored = train.indices[batch.index]
        assert torch.equal(batch.x, (stored.float() / 255)[:, None, None, None].expand(-1, 1, 2, 2))
        assert batch.x.dtype == torch.float32
        assert batch.target is batch.x
        assert batch.label is not None
        assert torch.equal(batch.label, stored % 3)
        assert train.labels is not None
        assert torch.equal(train.labels[batch.index], batch.label)
        assert train.factors is not None
        assert torch.equal(train.factors[batch.index, 0], stored)


def test_all_examples_once_in_order() -> None:
    batches = list(split().batches(10))
    assert [len(batch.x) for batch in batches] == [10] * 10 + [3]
    assert order(batches) == list(range(N))
    assert split().steps(10) == 11


def test_shuffle_is_a_permutation_fixed_by_its_generator() -> None:
    first, again, other = (order(split().batches(10, shuffle=seeded(s))) for s in (0, 0, 1))
    assert sorted(first) == list(range(N))
    assert first == again
    assert first != other
    assert first != list(range(N))


def test_the_order_is_drawn_at_once() -> None:
    generator = seeded()
    batches = split().batches(10, shuffle=generator)
    generator.manual_seed(5)
    assert order(batches) == order(split().batches(10, shuffle=seeded()))


@pytest.mark.parametrize("start", [0, 1, 7, 10, 11, 12])
def test_start_gives_the_tail(start: int) -> None:
    whole = list(split().batches(10, shuffle=seeded()))
    tail = list(split().batches(10, shuffle=seeded(), start=start))
    assert len(tail) == max(11 - start, 0)
    assert order(tail) == order(whole[start:])


@pytest.mark.parametrize("world", [1, 2, 4])
def test_ranks_share_the_order_out(world: int) -> None:
    whole = order(split().batches(7, shuffle=seeded()))
    shares = [order(split().batches(7, shuffle=seeded(), rank=rank, world=world)) for rank in range(world)]
    assert all(len(share) == N // world for share in shares)
    assert all(share == whole[rank::world][: N // world] for rank, share in enumerate(shares))
    assert len(set().union(*shares)) == N // world * world
    steps = len(list(split().batches(7, rank=world - 1, world=world)))
    assert steps == split().steps(7, world=world)


@pytest.mark.parametrize(
    "wrong", [{"batch_size": 0}, {"start": -1}, {"rank": 2, "world": 2}, {"rank": -1}, {"rank": 0, "world": 0}]
)
def test_impossible_numbers(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="batches: need"):
        split().batches(**({"batch_size": 10} | wrong))  # type: ignore[arg-type]


def test_batch_by_place() -> None:
    train = split()
    batch = train.batch(torch.tensor([4, 0]))
    assert isinstance(batch, Batch)
    assert (batch.x[:, 0, 0, 0] * 255).round().tolist() == [N - 5, N - 1]
    assert batch.index.tolist() == [4, 0]
    for bad in (N, -1):
        with pytest.raises(IndexError, match=f"split of {N}"):
            train.batch(torch.tensor([0, bad]))


def test_noise_is_drawn_anew_from_the_global_generator() -> None:
    train = split(transform="binarise")
    places = torch.arange(N)
    torch.manual_seed(0)
    first, second = train.batch(places).x, train.batch(places).x
    assert not torch.equal(first, second)
    torch.manual_seed(0)
    assert torch.equal(train.batch(places).x, first)
    assert first.unique().tolist() == [0.0, 1.0]
    static = split(transform="binarise-static")
    assert torch.equal(static.batch(places).x, static.batch(places.flip(0)).x.flip(0))


@pytest.mark.parametrize("transform", ["none", "binarise", "dequantise"])
@pytest.mark.parametrize("corruption", ["gaussian", "salt-and-pepper", "masking"])
def test_corruption_spares_the_target(transform: str, corruption: str) -> None:
    train = split(transform=transform, corruption=corruption, corruption_strength=0.5)
    torch.manual_seed(0)
    batch = train.batch(torch.arange(N))
    torch.manual_seed(0)
    clean = split(transform=transform).batch(torch.arange(N))
    assert torch.equal(batch.target, clean.x)
    assert not torch.equal(batch.x, batch.target)
    assert batch.x.min() >= 0.0
    assert batch.x.max() <= 1.0


@pytest.mark.parametrize("lazy", [False, True])
def test_another_target(lazy: bool) -> None:
    train = split(lazy=lazy, target="tenth")
    batch = next(train.batches(5, shuffle=seeded()))
    assert train.target_shape == batch.target.shape[1:] == (1,)
    assert train.shape == batch.x.shape[1:] == (1, 2, 2)
    assert torch.equal(batch.target[:, 0], train.indices[batch.index].float() / 10)


@pytest.mark.parametrize("transform", ["none", "binarise", "binarise-static", "dequantise"])
def test_lazy_sources_give_the_same(transform: str) -> None:
    seen = []
    for lazy in (False, True):
        torch.manual_seed(0)
        seen.append(torch.cat([b.x for b in split(lazy=lazy, transform=transform).batches(10, shuffle=seeded())]))
    assert torch.equal(*seen)


def test_repr_is_short() -> None:
    assert repr(split()) == f"Split({N} examples of shape (1, 2, 2), transform none, on cpu)"


def test_moving_to_the_same_device_changes_nothing() -> None:
    moved = split().to("cpu")
    assert moved.values is not None
    for left, right in pairwise([list(split().batches(10)), list(moved.batches(10))]):
        assert all(torch.equal(a.x, b.x) for a, b in zip(left, right, strict=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("lazy", [False, True])
def test_batches_on_a_gpu(lazy: bool) -> None:
    here = data(lazy=lazy)
    there = here.to("cuda")
    assert isinstance(there.train.values, torch.Tensor) is not lazy
    assert lazy or there.train.values is there.test.values
    for left, right in zip(
        here.train.batches(10, shuffle=seeded()), there.train.batches(10, shuffle=seeded()), strict=True
    ):
        assert right.x.device.type == right.target.device.type == right.index.device.type == "cuda"
        assert torch.equal(left.x, right.x.cpu())
        assert left.label is not None
        assert right.label is not None
        assert torch.equal(left.label, right.label.cpu())
    assert torch.equal(there.splits["train"], here.splits["train"])
