"""Classes that training and validation do not see."""

from __future__ import annotations

import pytest
import torch

from jensen.config import DataConfig
from jensen.data import Data, Dataset, load_data, prepare
from jensen.errors import ConfigError


def classes(data: Data, part: str) -> set[str]:
    labels = getattr(data, part).labels
    return {data.class_names[label] for label in labels.tolist()}


def table(class_names: tuple[str, ...] = ("a", "b")) -> Dataset:
    """Ten rows of class 0 with value 1, ten of class 1 with value 100; training and validation hold both."""
    labels = torch.arange(20) % 2
    return Dataset(
        name="rows",
        values=torch.where(labels == 0, 1.0, 100.0)[:, None] + torch.arange(20.0)[:, None] / 20,
        shape=(1,),
        levels=None,
        train=torch.arange(0, 10),
        valid=torch.arange(10, 14),
        test=torch.arange(14, 20),
        labels=labels,
        class_names=class_names,
    )


def test_left_out_digits_are_in_the_test_split_alone() -> None:
    whole, part = load_data("digits"), load_data("digits", leave_out=("3", "8"))
    ten = set("0123456789")
    assert classes(part, "train") == classes(part, "valid") == ten - {"3", "8"}
    assert classes(part, "test") == ten
    assert torch.equal(part.splits["test"], whole.splits["test"])
    # What is kept is kept in its order.
    labels = whole.train.labels
    assert labels is not None
    assert torch.equal(part.splits["train"], whole.splits["train"][(labels != 3) & (labels != 8)])
    assert part.class_names == tuple("0123456789")


def test_splits_of_a_run_are_filtered_too() -> None:
    whole = load_data("digits")
    again = load_data("digits", splits=whole.splits, leave_out=("0",))
    assert classes(again, "train") == set("123456789")
    same = load_data("digits", splits=again.splits, leave_out=("0",))
    assert all(torch.equal(same.splits[name], again.splits[name]) for name in ("train", "valid", "test"))


def test_limit_counts_what_is_left() -> None:
    data = load_data("digits", leave_out=("1",), limit=100)
    assert (len(data.train), len(data.valid)) == (100, 100)
    assert "1" not in classes(data, "train")


def test_statistics_are_those_of_the_classes_that_are_left() -> None:
    data = prepare(table(), DataConfig(name="rows", leave_out=("b",)))
    mean = data.train.transform_function.mean
    assert mean is not None
    assert mean.item() == pytest.approx(1.2)  # 1 + the mean of 0, 2, 4, 6, 8 over 20
    assert len(data.test) == 6


def test_classes_without_names_go_by_their_numbers() -> None:
    data = prepare(table(()), DataConfig(name="rows", leave_out=("1",)))
    assert data.train.labels is not None
    assert data.train.labels.tolist() == [0] * 5


def test_a_condition_keeps_all_its_classes() -> None:
    data = load_data("digits", leave_out=("9",), condition="label")
    assert data.condition_shape == (10,)


@pytest.mark.parametrize(
    ("name", "left_out", "message"),
    [
        ("iris", ("setose",), "no class 'setose'; did you mean setosa"),
        ("digits", ("10",), "no class '10'"),
        ("digits", tuple("0123456789"), "nothing is left of the training split"),
    ],
)
def test_what_cannot_be_left_out(name: str, left_out: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_data(name, leave_out=left_out)


def test_data_without_classes_are_refused() -> None:
    rows = Dataset(**{**vars(table(())), "labels": None})
    with pytest.raises(ConfigError, match="rows has no classes to leave out"):
        prepare(rows, DataConfig(name="rows", leave_out=("1",)))


def test_validation_without_examples_is_refused() -> None:
    data = table()
    rows = Dataset(**{**vars(data), "valid": torch.tensor([11, 13])})  # class b alone
    with pytest.raises(ConfigError, match="nothing is left of the validation split"):
        prepare(rows, DataConfig(name="rows", leave_out=("b",)))
