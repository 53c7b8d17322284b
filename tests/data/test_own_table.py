"""A table of one's own: what each column becomes, and what is said of a table that cannot be used."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from jensen import load_data
from jensen.data import Data
from jensen.errors import ConfigError, DataError

Write = Callable[..., str]

HEAD = "height,colour,visits,kind,note\n"
ROWS = [f"{150 + i % 17}.5,{('red', 'green', 'blue')[i % 3]},{i % 5},{'ab'[i % 2]},n{i}" for i in range(60)]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def to_file(text: str, name: str = "own.csv") -> str:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return str(tmp_path / name)

    return to_file


def load(path: str, **settings: Any) -> Data:
    return load_data(path, **{"ignore": ("note",), **settings})


def text(rows: list[str] = ROWS) -> str:
    return HEAD + "\n".join(rows) + "\n"


def test_each_column_by_what_it_holds(write: Write) -> None:
    data = load(write(text()), counts=("visits",), class_column="kind")
    assert [(c.name, c.kind, c.categories) for c in data.columns] == [
        ("height", "real", ()),
        ("colour", "categorical", ("blue", "green", "red")),
        ("visits", "count", ()),
    ]
    stored = data.dataset.values[torch.arange(4)]
    expected = [[150.5, 2, 0], [151.5, 1, 1], [152.5, 0, 2], [153.5, 2, 3]]
    assert stored.tolist() == expected
    assert data.class_names == ("a", "b")
    assert data.dataset.labels is not None
    assert data.dataset.labels[:3].tolist() == [0, 1, 0]
    assert data.suits == "table"
    for part in (data.train, data.valid, data.test):  # stratified: as many of each class, but for one
        assert part.labels is not None
        assert abs(int((part.labels == 0).sum()) - len(part) // 2) <= 1


def test_only_real_columns_are_standardised(write: Write) -> None:
    data = load(write(text()), counts=("visits",), class_column="kind")
    x = data.train.batch(torch.arange(len(data.train))).x
    assert x[:, 0].mean().item() == pytest.approx(0, abs=1e-5)
    assert x[:, 0].std(correction=0).item() == pytest.approx(1, abs=1e-5)
    stored = data.dataset.values[data.train.indices]
    assert torch.equal(x[:, 1:], stored[:, 1:])


def test_gaps_are_masked_and_statistics_are_of_what_is_known(write: Write) -> None:
    rows = [row.split(",") for row in ROWS]
    words = ["", "NA", " ? ", "nan", "unknown", "None"]
    for place, word in enumerate(words):
        rows[place][place % 3] = word
    data = load(write(text([",".join(row) for row in rows])), counts=("visits",), missing=("Unknown",))
    values = data.dataset.values[torch.arange(60)]
    gaps = values.isnan().nonzero().tolist()
    assert gaps == [[i, i % 3] for i in range(6)]
    mean, sd = data.train.transform_function.mean, data.train.transform_function.sd
    known = values[data.train.indices, 0].numpy().astype(float)
    assert mean is not None
    assert sd is not None
    assert mean.tolist() == pytest.approx([np.nanmean(known), 0, 0, 0])
    assert sd.tolist() == pytest.approx([np.nanstd(known), 1, 1, 1])
    batch = data.train.batch(torch.arange(len(data.train)))
    assert batch.mask is not None
    assert torch.equal(batch.mask == 0, batch.x.isnan())


@pytest.mark.parametrize("separator", [";", "\t"])
def test_other_ways_to_write_it(write: Write, separator: str) -> None:
    quoted = text().replace("red", '"red, deep ""x"""').replace("note", '"note"')
    lines = [line.replace("red, ", "red| ").replace(",", separator) for line in quoted.splitlines()]
    lines = [line.replace("red| ", "red, ") for line in lines]
    data = load(write("\ufeff" + "\r\n".join(lines), "own.tsv"))
    assert 'red, deep "x"' in data.columns[1].categories


def test_numbers_that_are_categories(write: Write) -> None:
    data = load(write(text()), categorical=("visits",))
    assert data.columns[2].categories == ("0", "1", "2", "3", "4")
    assert data.dataset.values[torch.arange(7)][:, 2].tolist() == [0, 1, 2, 3, 4, 0, 1]
    with_point = text([row.replace(",3,", ",3.0,") if i % 2 else row for i, row in enumerate(ROWS)])
    assert load(write(with_point), categorical=("visits",)).columns[2].categories == ("0", "1", "2", "3", "4")


def test_a_constant_column_costs_nothing(write: Write) -> None:
    with pytest.warns(UserWarning, match="never varies.*column visits"):
        data = load(write(text([",".join([*row.split(",")[:2], "7", *row.split(",")[3:]]) for row in ROWS])))
    assert data.columns[2].kind == "categorical"
    assert data.columns[2].categories == ("7",)
    assert data.dataset.values[torch.arange(60)][:, 2].tolist() == [0] * 60


def test_a_column_that_numbers_the_rows_is_told(write: Write) -> None:
    with pytest.warns(UserWarning, match="'id' numbers the rows; --ignore id leaves it out"):
        load(write("id," + HEAD + "\n".join(f"{i},{row}" for i, row in enumerate(ROWS))))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(write(text()))


def test_too_small_differences_are_told(write: Write) -> None:
    rows = [f"{1_700_000_000 + i * 7 % 50},{row}" for i, row in enumerate(ROWS)]
    with pytest.warns(UserWarning, match="'time' varies too little around 1.7e.09 for single precision"):
        load(write("time," + HEAD + "\n".join(rows)))


def changed(row: int, column: int, cell: str) -> str:
    rows = [line.split(",") for line in ROWS]
    rows[row][column] = cell
    return text([",".join(cells) for cells in rows])


@pytest.mark.parametrize(
    ("content", "settings", "message"),
    [
        (changed(4, 0, "inf"), {}, "'height' is infinite in row 5"),
        (changed(4, 0, "1e35"), {}, r"'height' is 1e\+35, too large in row 5"),
        (changed(4, 0, "tall"), {}, "'height' holds numbers, but 'tall' in row 5; .* --missing tall"),
        (changed(4, 0, '"1,234.5"'), {}, "'height' holds '1,234.5' in row 5, a decimal comma or commas between"),
        (changed(6, 2, "-1"), {"counts": ("visits",)}, r"'visits' should be counts .*holds -1 in row 7"),
        (changed(6, 2, "1.5"), {"counts": ("visits",)}, "holds 1.5 in row 7"),
        (changed(6, 2, "many"), {"counts": ("visits",)}, "'visits' holds 'many' in row 7, no number; .*--missing many"),
        (changed(6, 3, "?"), {"class_column": "kind"}, "the class 'kind' is missing in row 7"),
        (text([*ROWS[:8], "1,red,2", *ROWS[8:]]), {}, r"row 9 has 3 values, but the header has 5 \(line 10 of"),
        (
            text([f"{row}{i}" for i, row in enumerate(ROWS * 2)]),
            {"ignore": None},
            "'note' has 120 categories, nearly a different one in every row .*--ignore note",
        ),
        (text(), {"class_column": "kin"}, "has no column 'kin'; did you mean 'kind'"),
        (text(), {"counts": ("q",)}, "has no column 'q'; it has height, colour"),
        (text(), {"ignore": ("height", "colour", "visits", "kind", "note")}, "no column left to learn from"),
        (text(["1,red,,a,n"] * 40), {}, "'visits' holds nothing but gaps; leave it out: --ignore visits"),
    ],
)
def test_a_table_that_cannot_be_used(write: Write, content: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(write(content), **settings)


def test_decimal_commas_are_not_guessed(write: Write) -> None:
    rows = "\n".join(row.replace(",", ";").replace(".", ",") for row in ROWS)
    with pytest.raises(
        DataError, match=r"'height' holds '150,5' in row 1, a decimal comma or .*write numbers like 1234.5"
    ):
        load(write(HEAD.replace(",", ";") + rows))


def test_a_column_that_is_to_be_two_things(write: Write) -> None:
    with pytest.raises(ConfigError, match="'visits' cannot be both: categorical and count"):
        load(write(text()), categorical=("visits",), counts=("visits",))


def test_parquet_is_the_same_table(write: Write, tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = {
        "height": [None if i == 3 else 150.5 + i % 17 for i in range(60)],
        "member": [bool(i % 2) for i in range(60)],
        "visits": [i % 5 for i in range(60)],
    }
    parquet.write_table(pyarrow.table(columns), tmp_path / "own.parquet")
    data = load_data(str(tmp_path / "own.parquet"), counts=("visits",))
    assert [(c.kind, c.categories) for c in data.columns] == [
        ("real", ()),
        ("categorical", ("false", "true")),
        ("count", ()),
    ]
    first = data.dataset.values[torch.arange(4)]
    assert first[:3].tolist() == [[150.5, 0, 0], [151.5, 1, 1], [152.5, 0, 2]]
    assert math.isnan(first[3, 0])
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match=r"damaged or no \.parquet file"):
        load_data(str(tmp_path / "bad.parquet"))
