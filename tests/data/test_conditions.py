"""What a model is told beside the datum: labels, properties, images and parts of them; and labels known of some."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from jensen.config import DataConfig
from jensen.data import Batch, Data, Dataset, load_data, prepare
from jensen.data.labelled import epoch_length
from jensen.data.visible import PARTS, shown, visible
from jensen.errors import ConfigError, DataError

N, CLASSES = 120, 4


def dataset(height: int = 5, width: int = 4, channels: int = 2, **changes: Any) -> Dataset:
    """Random images; class i mod 4; properties on scales of their own; another image that is the negative."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randint(0, 256, (N, channels, height, width), generator=generator, dtype=torch.uint8)
    choices: dict[str, Any] = {
        "name": "noise",
        "values": values,
        "shape": (channels, height, width),
        "levels": 256,
        "train": torch.arange(100).flip(0),
        "valid": torch.arange(100, 110),
        "test": torch.arange(110, N),
        "labels": torch.arange(N) % CLASSES,
        "class_names": ("a", "b", "c", "d"),
        "targets": {"size": torch.arange(N, dtype=torch.float32)[:, None] * 3 + 100},
        "conditions": {
            "pose": torch.randn(N, 2, generator=generator) * torch.tensor([0.01, 50.0]),
            "weight": torch.full((N,), 7.0),
            "negative": 255 - values,
        },
    }
    return Dataset(**{**choices, **changes})


def told(condition: str, made: Dataset | None = None, **settings: Any) -> Data:
    config = DataConfig(**{"name": "noise", "transform": "none", "condition": condition, **settings})
    return prepare(dataset() if made is None else made, config)


def whole(split: Any) -> Batch:
    batch: Batch = split.batch(torch.arange(len(split)))
    return batch


def given(split: Any) -> Tensor:
    condition = whole(split).condition
    assert condition is not None
    assert condition.dtype == torch.float32
    return condition


def test_nothing_is_told_unless_asked_for() -> None:
    data = prepare(dataset())
    assert data.condition_shape is None
    assert data.condition_names == ()
    assert whole(data.train).condition is None
    assert whole(data.train).mask is None
    assert "condition" not in dict(data.describe())
    assert dict(data.describe())["conditions"] == "pose, weight, negative"


def test_a_label_is_one_hot() -> None:
    data = told("label")
    assert data.condition_shape == (CLASSES,)
    assert data.condition_names == ("a", "b", "c", "d")
    assert dict(data.describe())["condition"] == "label, one of 4"
    for split in (data.train, data.valid, data.test):
        batch = whole(split)
        assert batch.mask is None
        assert torch.equal(given(split), torch.eye(CLASSES)[split.indices % CLASSES])
        assert given(split).argmax(1).tolist() == batch.label.tolist()  # type: ignore[union-attr]


def test_classes_that_have_no_names_are_numbers() -> None:
    data = told("label", dataset(class_names=()))
    assert data.condition_names == ("0", "1", "2", "3")


def test_properties_are_standardised_by_the_training_split_alone() -> None:
    made = dataset()
    data = told("size, pose,weight", made)
    assert data.condition_names == ("size", "pose-0", "pose-1", "weight")
    assert data.condition_shape == (4,)
    columns = np.concatenate(
        [
            made.targets["size"].double().numpy(),
            made.conditions["pose"].double().numpy(),
            made.conditions["weight"][:, None].double().numpy(),
        ],
        1,
    )
    mean, sd = columns[:100].mean(0), columns[:100].std(0)
    sd[3] = 1.0  # a column that never changes
    for split in (data.train, data.valid, data.test):
        expected = (columns[split.indices.numpy()] - mean) / sd
        np.testing.assert_allclose(given(split).numpy(), expected, rtol=1e-5, atol=1e-6)
    assert abs(float(given(data.test)[:, 0].mean())) > 1.5  # which standardising by its own would not have given
    assert data.train.condition is not None
    np.testing.assert_allclose(data.train.condition.mean, mean, rtol=1e-12)
    np.testing.assert_allclose(data.train.condition.sd, sd, rtol=1e-12)
    limited = told("size", made, limit=10).train.condition
    assert limited is not None
    np.testing.assert_allclose(limited.mean, columns[90:100, :1].mean(0), rtol=1e-12)


@pytest.mark.parametrize("floating", [False, True])
def test_another_image(floating: bool) -> None:
    made = dataset()
    if floating:
        made = dataset(conditions={"negative": 1 - made.values[torch.arange(N)].float() / 255})
    data = told("negative", made)
    assert data.condition_shape == (2, 5, 4)
    for split in (data.train, data.test):
        assert torch.allclose(given(split), 1 - whole(split).x, atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(4, 6), (5, 4), (3, 7), (2, 2)])
def test_parts_pixel_by_pixel(height: int, width: int) -> None:
    rows, columns = (height + 1) // 2, (width + 1) // 2  # the middle one is in the upper, or left, half
    for part in PARTS:
        inside = visible(part, height, width)
        assert inside.shape == (1, height, width)
        for i in range(height):
            for j in range(width):
                expected = not (("upper" in part and i >= rows) or ("lower" in part and i < rows))
                expected &= not (("left" in part and j >= columns) or ("right" in part and j < columns))
                expected ^= part.startswith("all-but-")
                assert bool(inside[0, i, j]) is expected
    for group in (PARTS[:2], PARTS[2:4], PARTS[4:8]):
        together = torch.stack([visible(part, height, width) for part in group]).sum(0)
        assert torch.equal(together, torch.ones(1, height, width))


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("transform", ["none", "binarise", "binarise-static", "dequantise"])
def test_a_part_is_cut_from_the_draw_that_is_to_be_predicted(part: str, transform: str) -> None:
    data = told(part, transform=transform)
    assert data.condition_shape == (3, 5, 4)
    inside = visible(part, 5, 4)
    for batch in data.train.batches(30, shuffle=torch.Generator().manual_seed(0)):
        assert batch.condition is not None
        assert batch.mask is not None
        assert batch.target is batch.x  # whole
        for i in range(5):
            for j in range(4):
                seen = bool(inside[0, i, j])
                expected = batch.x[:, :, i, j] if seen else torch.zeros(len(batch.x), 2)
                assert torch.equal(batch.condition[:, :2, i, j], expected)
                assert batch.condition[:, 2, i, j].tolist() == [float(seen)] * len(batch.x)
                assert batch.mask[:, :, i, j].tolist() == [[float(not seen)] * 2]
        assert (batch.x * batch.mask).any()
        assert torch.equal(shown(batch.x, inside), batch.condition)


def test_an_image_too_flat_for_a_part() -> None:
    with pytest.raises(ConfigError, match="lower-half of an image of 1 x 4 pixels is all of it or nothing"):
        told("lower-half", dataset(height=1))
    assert told("upper-left", dataset(height=1)).condition_shape == (3, 1, 4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"condition": "sise"}, r"noise has no 'sise'; did you mean size\? \(choices: label, size, pose, weight"),
        ({"condition": "labels"}, r"did you mean label\?"),
        ({"condition": "upper-haft"}, r"did you mean upper-half\?"),
        ({"condition": "size,size"}, "size is given more than once"),
        ({"condition": "size,label"}, "label cannot be joined"),
        ({"condition": "left-half,size"}, "left-half cannot be joined"),
        ({"condition": "negative,size"}, "negative is an image, which cannot be joined"),
        ({"condition": "size,"}, "has no ''"),
        ({"condition": "size", "target": "size"}, "size is what data.target asks to predict"),
        ({"condition": "left-half", "target": "size"}, "data.condition and data.target exclude each other"),
        ({"condition": "left-half", "corruption": "masking"}, "data.condition and data.corruption exclude each other"),
        ({"condition": "size", "labelled": 8}, "needs data.condition label"),
        ({"labelled": 8}, "needs data.condition label"),
    ],
)
def test_impossible_conditions(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        prepare(dataset(), DataConfig(name="noise", **settings))


def test_what_a_data_set_does_not_have() -> None:
    with pytest.raises(ConfigError, match=r"noise has no labels; choices: size, pose, weight, negative, left-half"):
        told("label", dataset(labels=None, class_names=()))
    with pytest.raises(ConfigError, match="part of an image, but iris is a table"):
        load_data("iris", condition="left-half")
    assert load_data("iris", condition="label").condition_names == ("setosa", "versicolor", "virginica")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"conditions": {"a": torch.zeros(3)}}, "a has 3 rows for 120 examples"),
        ({"conditions": {"a": torch.zeros(N, 2, 2)}}, r"condition a should be \(N,\) or \(N, C\) float32"),
        ({"conditions": {"a": torch.zeros(N, dtype=torch.int64)}}, "not .* torch.int64"),
        ({"conditions": {"a": torch.full((N, 1), torch.nan)}}, "a of example 0 is nan; it should be finite"),
        ({"conditions": {"a": torch.full((N, 1, 2, 2), 1.5)}}, r"values 1.5 .. 1.5; images should be float32 in"),
        ({"conditions": {"size": torch.zeros(N)}}, "'size' should have a name of its own"),
        ({"conditions": {"a,b": torch.zeros(N)}}, "without commas"),
        ({"conditions": {"left-half": torch.zeros(N)}}, "'left-half' should have a name of its own"),
        ({"labels": torch.arange(N)}, r"labels 0 .. 119 should be in 0 .. 3"),
        ({"labels": torch.zeros(N)}, r"labels should be \(N,\) int64"),
        ({"factors": torch.full((N, 1), torch.nan), "factor_names": ("f",)}, "factors of example 0 is nan"),
        ({"factors": torch.zeros(N, 2), "factor_names": ("f",)}, r"factors should be \(N, 1\)"),
        ({"factors": torch.zeros(N, 1).double(), "factor_names": ("f",)}, "int64 or float32"),
    ],
)
def test_data_sets_are_checked(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        dataset(**changes)


def test_grey_levels_of_another_image_are_those_of_the_data() -> None:
    levels = torch.randint(0, 17, (N, 1, 2, 2), dtype=torch.uint8)
    levels[0] = 16
    made = dataset(values=torch.zeros(N, 2, 5, 4, dtype=torch.uint8), levels=17, conditions={"other": levels})
    assert torch.equal(given(told("other", made).train), levels[torch.arange(100).flip(0)].float() / 16)
    levels[1] = 17
    with pytest.raises(DataError, match=r"values 0 .. 17; .* uint8 in 0 .. 16"):
        dataset(values=made.values, levels=17, conditions={"other": levels})


def test_continuous_factors_go_with_their_examples() -> None:
    data = load_data("circles", transform="none")
    assert data.train.factor_names == ("x", "y", "radius")
    batch = data.train.batch(torch.tensor([5, 0]))
    assert batch.factors is not None
    assert batch.factors.dtype == torch.float32
    places = data.train.indices[torch.tensor([5, 0])]
    for column, name in enumerate(data.train.factor_names):
        assert torch.equal(batch.factors[:, column], data.dataset.targets[name][places, 0])
    assert load_data("digits").train.factor_names == ()


@pytest.mark.parametrize("count", [4, 6, 40, 99])
def test_as_many_labels_are_kept_of_each_class(count: int) -> None:
    data = told("label", labelled=count)
    train = given(data.train)
    known = train.sum(1) == 1
    assert int(known.sum()) == count
    assert int((train.sum(1) == 0).sum()) == 100 - count
    each = train.sum(0)
    assert each.max() - each.min() <= 1
    labels = whole(data.train).label
    assert labels is not None
    assert torch.equal(labels, data.train.indices % CLASSES)  # the truth stays
    assert torch.equal(train[known].argmax(1), labels[known])
    for split in (data.valid, data.test):
        assert not given(split).any()
        assert split.labels is not None
        assert torch.equal(split.labels, split.indices % CLASSES)
    assert dict(data.describe())["condition"] == f"label, one of 4, known of {count} training examples"


def known(data: Data) -> set[int]:
    """Positions of the training examples whose label is told."""
    return set(data.train.indices[given(data.train).sum(1) == 1].tolist())


def test_the_choice_of_labels_depends_on_the_data_alone() -> None:
    torch.manual_seed(1)
    first = known(told("label", labelled=20))
    torch.manual_seed(2)
    assert known(told("label", labelled=20)) == first
    other = dataset(train=torch.arange(100))  # in another order
    assert known(told("label", other, labelled=20)) == first
    assert known(told("label", labelled=40)) > first
    assert sorted(first) != sorted(known(told("label", labelled=40)))[:20]  # not simply the first of each class
    limited = known(told("label", labelled=20, limit=60))
    assert limited <= set(range(40, 100))
    restored = prepare(
        dataset(),
        DataConfig(name="noise", condition="label", labelled=20),
        splits=told("label", labelled=20, limit=60).splits,
    )
    assert known(restored) == limited


def test_more_labels_than_there_are() -> None:
    with pytest.raises(ConfigError, match="3 labels for 4 classes"):
        told("label", labelled=3)
    with pytest.raises(ConfigError, match="101 labels are 26 of class a, which has 25 training examples"):
        told("label", labelled=101)
    assert len(known(told("label", labelled=100))) == 100
    with pytest.raises(ConfigError, match="8 labels are 2 of class d, which has 0"):
        told("label", dataset(labels=torch.arange(N) % 3), labelled=8)


def shuffled(data: Data, seed: int = 0, **choices: Any) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    return [batch.index.tolist() for batch in data.train.batches(16, shuffle=generator, **choices)]


def flat(batches: list[list[int]]) -> list[int]:
    return [place for batch in batches for place in batch]


@pytest.mark.parametrize(("count", "share"), [(8, 0.25), (7, 0.5), (20, 0.6), (40, 0.1), (100, 0.3)])
def test_labelled_examples_make_up_their_share_of_an_epoch(count: int, share: float) -> None:
    data = told("label", labelled=count, labelled_share=share)
    assert len(data.train) == 100
    places = flat(shuffled(data))
    times = np.bincount(places, minlength=100)
    is_known = (given(data.train).sum(1) == 1).numpy()
    assert len(places) == data.train.epoch_length
    assert (times[~is_known] == 1).all()
    assert times[is_known].min() >= 1
    assert times[is_known].max() - times[is_known].min() <= 1
    seen = float(times[is_known].sum()) / len(places)
    if count / 100 >= share:
        assert data.train.epoch_length == 100  # more than asked for, even without repeating any
    else:
        assert seen == pytest.approx(share, abs=0.5 / len(places) + 1e-9)
    told_each = torch.cat(
        [b.condition for b in data.train.batches(16, shuffle=torch.Generator()) if b.condition is not None]
    )
    assert int(told_each.sum()) == times[is_known].sum()


def test_what_is_left_over_is_another_in_every_epoch() -> None:
    data = told("label", labelled=7, labelled_share=0.5)  # 93 of 7: 13 times each, and 2 once more
    more = [frozenset(np.flatnonzero(np.bincount(flat(shuffled(data, seed))) == 14).tolist()) for seed in range(20)]
    assert all(len(extra) == 2 for extra in more)
    assert len(frozenset().union(*more)) == 7


@pytest.mark.parametrize(
    ("total", "count", "share"), [(54_000, 100, 0.25), (1000, 999, 0.5), (7, 7, 0.9), (10, 1, 0.01)]
)
def test_epoch_length(total: int, count: int, share: float) -> None:
    length = epoch_length(total, count, share)
    labelled = length - (total - count)
    if total == count:
        assert length == total
    elif labelled > count:
        assert labelled / length == pytest.approx(share, abs=0.51 / length)
    else:
        assert labelled == count
        assert count / total >= share - 0.51 / total


def test_in_order_each_example_comes_once() -> None:
    data = told("label", labelled=8)
    assert flat([batch.index.tolist() for batch in data.train.batches(16)]) == list(range(100))
    assert data.train.steps(16) == 7
    assert data.train.epoch_length == 92 + 31
    assert data.train.steps(16, shuffled=True) == 8 == len(shuffled(data))
    assert data.valid.epoch_length == 10
    assert told("label").train.epoch_length == 100


@pytest.mark.parametrize("start", [0, 3, 7, 8])
def test_an_epoch_with_repetitions_is_resumed(start: int) -> None:
    data = told("label", labelled=8)
    assert shuffled(data, start=start) == shuffled(data)[start:]


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_share_an_epoch_with_repetitions_out(world: int) -> None:
    data = told("label", labelled=8)
    everything = flat(shuffled(data))
    shares = [shuffled(data, rank=rank, world=world) for rank in range(world)]
    assert len({len(flat(share)) for share in shares}) == 1
    assert all(len(share) == data.train.steps(16, world=world, shuffled=True) for share in shares)
    together = [place for share in zip(*map(flat, shares), strict=True) for place in share]
    assert together == everything[: len(everything) // world * world]


@pytest.mark.parametrize("condition", ["label", "size,pose", "negative", "upper-left"])
@pytest.mark.parametrize(
    "device",
    ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"))],
)
def test_conditions_move_to_a_device(condition: str, device: str) -> None:
    here = told(condition)
    there = here.to(device)
    left, right = whole(here.test), whole(there.test)
    assert left.condition is not None
    assert right.condition is not None
    assert right.condition.device.type == device
    assert torch.equal(left.condition, right.condition.cpu())
    if left.mask is not None:
        assert right.mask is not None
        assert torch.equal(left.mask, right.mask.cpu())
    assert there.condition_shape == here.condition_shape
