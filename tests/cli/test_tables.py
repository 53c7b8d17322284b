"""What `jensen infer` reads is what is in the file; what cannot be read is told with its place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes

from jensen.cli.tables import Classes, Table, read_table, with_target
from jensen.errors import DataError

Write = Callable[[str, str], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def to_file(name: str, text: str) -> str:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return str(tmp_path / name)

    return to_file


def test_numeric_columns_of_a_csv(write: Write) -> None:
    table = read_table(write("birds.csv", "mass, wing ,name\n1,2.5,owl\n-3e1,4,crow\n"))
    assert table.columns == ("mass", "wing")
    np.testing.assert_array_equal(table.x, [[1, 2.5], [-30, 4]])
    assert table.left_out == ("name",)
    assert table.name == "birds"


@pytest.mark.parametrize("text", ["a;b\n1;2\n3;4\n", "a\tb\r\n1\t2\r\n3\t4\r\n", '\ufeff"a",b\n\n"1",2\n3,4\n'])
def test_other_ways_to_write_a_table(write: Write, text: str) -> None:
    table = read_table(write("t.csv", text))
    assert table.columns == ("a", "b")
    np.testing.assert_array_equal(table.x, [[1, 2], [3, 4]])


def test_missing_values_are_nan(write: Write) -> None:
    table = read_table(write("t.csv", "a,b\n1,NA\n,2\n?,nan\n"))
    np.testing.assert_array_equal(table.x, [[1, np.nan], [np.nan, 2], [np.nan, np.nan]])


def test_columns_are_taken_in_the_order_given_and_the_rest_is_at_hand(write: Write) -> None:
    table = read_table(write("t.csv", "a,b,c\n1,2,3\n4,5,6\n"), ["c", "a"])
    assert table.columns == ("c", "a")
    np.testing.assert_array_equal(table.x, [[3, 1], [6, 4]])
    np.testing.assert_array_equal(table.others["b"], [2, 5])


def test_target_and_label_are_no_columns(write: Write) -> None:
    source = write("t.csv", "a,y,kind\n1,5,x\n2,6,w\n3,7,x\n")
    table = with_target(read_table(source, apart=["y", "kind"]), "y", "kind")
    assert table.columns == ("a",)
    np.testing.assert_array_equal(table.target, [5, 6, 7])
    assert table.labels is not None
    assert table.labels.names == ("w", "x")
    assert table.labels.places.tolist() == [1, 0, 1]


def test_a_target_of_numbers_can_be_classes(write: Write) -> None:
    table = with_target(read_table(write("t.csv", "a,y\n1,10\n2,2\n3,10\n"), apart=["y"]), "y", None, classes=True)
    assert isinstance(table.target, Classes)
    assert table.target.names == ("2", "10")
    assert table.target.places.tolist() == [1, 0, 1]


def test_arrays(tmp_path: Path) -> None:
    x, y = np.arange(6).reshape(3, 2), np.array(["u", "v", "u"])
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "both.npz", features=x, kind=y, other=np.zeros(7))
    np.testing.assert_array_equal(read_table(str(tmp_path / "x.npy"), ["column 1"]).x, [[1], [3], [5]])
    table = with_target(read_table(str(tmp_path / "both.npz"), apart=["kind"]), None, "kind")
    np.testing.assert_array_equal(table.x, x)
    assert table.labels is not None
    assert table.labels.names == ("u", "v")


def test_sets_that_come_with_scikit_learn() -> None:
    diabetes = with_target(read_table("diabetes", apart=["target"]), "target", None)
    np.testing.assert_array_equal(diabetes.x, load_diabetes().data)
    np.testing.assert_array_equal(diabetes.target, load_diabetes().target)
    cancer = with_target(read_table("breast_cancer", apart=["target"]), "target", None, classes=True)
    assert isinstance(cancer.target, Classes)
    names = np.array(cancer.target.names)[cancer.target.places]
    np.testing.assert_array_equal(names, load_breast_cancer().target_names[load_breast_cancer().target])
    assert cancer.name == "breast_cancer"


def chosen(table: Table, **options: Any) -> Table:
    return with_target(table, **{"target": None, "label": None, **options})


@pytest.mark.parametrize(
    ("text", "columns", "message"),
    [
        ("", [], "is empty"),
        ("1,2\n3,4\n", [], "begins with numbers"),
        ("a,b\n", [], "a header and no rows"),
        ("a,b\n1,2\n3\n", [], "row 2 has 1 values, but the header has 2"),
        ("a,a\n1,2\n", [], "two columns called 'a'"),
        ("a,b\nx,y\n", [], "no column of numbers to use; it has a, b"),
        ("a,bird\n1,owl\n", ["bird"], "column 'bird' holds text .row 1: 'owl'."),
        ("mass,wing\n1,2\n", ["mas"], "no column 'mas'; did you mean 'mass'"),
        ("mass,wing\n1,2\n", ["q"], "no column 'q'; it has mass, wing"),
    ],
)
def test_a_table_that_cannot_be_used(write: Write, text: str, columns: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_table(write("t.csv", text), columns)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"a,b\n\xff\xfe,2\n", "cannot be read as text"),
        ("t.npy", b"nonsense", "damaged or no .npy"),
        ("t.npz", b"nonsense", "damaged or no .npz"),
        ("t.xlsx", b"", "cannot read this kind of file; give .csv"),
    ],
)
def test_a_damaged_file(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_table(str(tmp_path / name))


def test_arrays_that_are_no_table(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", n=np.zeros(3))
    np.save(tmp_path / "b.npy", np.zeros((2, 3, 4)))
    np.savez(tmp_path / "c.npz", indptr=np.zeros(3), x=np.zeros((2, 2)))
    for name, message in (("a", "holds n, none of it a table"), ("b", r"\(2, 3, 4\)"), ("c", "sparse counts")):
        source = next(tmp_path.glob(f"{name}.*"))
        with pytest.raises(DataError, match=message):
            read_table(str(source))


def test_a_name_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="did you mean breast_cancer"):
        read_table("breast-cancer")
    with pytest.raises(DataError, match="no such file; give a file, or one of"):
        read_table("nowhere.csv")
    with pytest.raises(DataError, match="is a folder"):
        read_table(str(tmp_path))


def test_targets_that_cannot_be_one(write: Write) -> None:
    source = write("t.csv", "a,y,name\n1,5,x\n2,NA,\n")
    with pytest.raises(DataError, match="'y' is missing or not finite in row 2"):
        chosen(read_table(source, apart=["y"]), target="y")
    with pytest.raises(DataError, match=r"target 'name' holds text .row 1: 'x'."):
        chosen(read_table(source, apart=["name"]), target="name")
    with pytest.raises(DataError, match="'name' is missing in row 2"):
        chosen(read_table(source, apart=["name"]), label="name")
    with pytest.raises(DataError, match="no column 'z'"):
        read_table(source, apart=["z"])
    with pytest.raises(DataError, match="'a' cannot be among --columns"):
        read_table(source, ["a"], apart=["a"])
