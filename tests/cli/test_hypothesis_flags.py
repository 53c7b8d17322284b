"""Any flags with any values: an exit code that is documented, never a traceback, and of a mistake one line."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jensen.cli.app import main
from jensen.cli.flags import Key, config_keys
from jensen.config import Config, PriorConfig

MISTAKE = 2
TINY = [
    *("--data", "digits", "--limit", "40", "--epochs", "1", "--batch-size", "16", "--accelerator", "cpu"),
    *("--net-width", "4", "--seed", "1"),
]
OTHERS = {"data", "data-dir", "directory", "devices", "nodes", "strategy", "compile", "accelerator", "epochs", "seed"}
"""What decides where and for how long."""
NUMBERS = (
    "0",
    "1",
    "2",
    "3",
    "-1",
    "0.5",
    "1e-3",
    "1e30",
    "nan",
    "inf",
    "x",
    "",
    "none",
    "1,2",
    "99999999999999999999",
)
BAD = ("", "x", "-", "--", "--nonsense", "\u00e9\n")


def of_key(key: Key) -> st.SearchStrategy[list[str]]:
    """The flag of a key with a value that is right, or nearly, or wrong."""
    flag, kind = f"--{key.flag}", key.field.annotation
    inner = next((part for part in get_args(kind) if part is not type(None)), kind) if get_args(kind) else kind
    words = [str(choice) for choice in get_args(kind) + get_args(inner) if isinstance(choice, str | int)]
    if kind is bool:
        return st.sampled_from([[flag], [f"--no-{key.flag}"], [flag, "maybe"]])
    if get_origin(inner) is tuple or "tuple" in str(kind):
        return st.sampled_from(["2,3", "2@4,1@4", "1x2@4", "", ",", "x", "3"]).map(lambda text: [flag, text])
    return st.sampled_from([*words, *words, *words, *NUMBERS] if words else [*NUMBERS]).map(lambda text: [flag, text])


def flags(section: Any, most: int) -> st.SearchStrategy[list[str]]:
    """Some flags of a configuration, and perhaps something that is none."""
    keys = [key for key in config_keys(section) if key.flag not in OTHERS]
    some = st.lists(st.sampled_from(keys).flatmap(of_key), max_size=most)
    odd = st.sampled_from([[], [], [], [], [], *([bad] for bad in BAD), ["--help"], ["--version"]])
    return st.tuples(some, odd).map(lambda both: [*(word for part in both[0] for word in part), *both[1]])


numbers = st.sampled_from(NUMBERS)
USES = st.one_of(
    st.tuples(st.just("sample"), st.sampled_from(["-n", "--temperature", "--seed", "--label", "--top"]), numbers),
    st.tuples(st.just("reconstruct"), st.sampled_from(["-n", "--split", "--temperature", "--top"]), numbers),
    st.tuples(st.just("interpolate"), st.sampled_from(["--steps", "--between", "--seed"]), numbers),
    st.tuples(st.just("encode"), st.sampled_from(["--split", "--levels", "--output"]), numbers),
    st.tuples(
        st.just("evaluate"), st.sampled_from(["--samples", "--seed", "--limit"]), st.sampled_from(["1", "x", "-1"])
    ),
    st.tuples(st.just("runs"), st.sampled_from(["--sort", "--limit"]), numbers),
)


def ran(words: list[str]) -> tuple[int, str]:
    """Exit code and stderr of the command in this process."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        code = main(words)
    return code, said.getvalue()


def require_documented(words: list[str]) -> int:
    """Done, or a mistake that one line explains."""
    code, said = ran(words)
    assert "Traceback" not in said, words
    assert code in (0, MISTAKE), (words, code, said)
    errors = [line for line in said.splitlines() if line.startswith("jensen: error:")]
    assert len(errors) == (code == MISTAKE), (words, said)
    assert code == 0 or said.rstrip("\n").splitlines()[-1] == errors[0], (words, said)
    return code


@contextlib.contextmanager
def within(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


codes: list[int] = []
QUIET: dict[str, Any] = {
    "derandomize": True,
    "deadline": None,
    "database": None,
    "suppress_health_check": list(HealthCheck),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("flags")


@pytest.fixture(scope="module")
def trained(folder: Path) -> Path:
    with within(folder):
        assert ran(["train", *TINY, "--latent", "2", "--run", "first"])[0] == 0
    return folder / "first"


@settings(max_examples=30, **QUIET)
@given(flags(Config, 3))
def test_train(folder: Path, words: list[str]) -> None:
    with within(folder):
        codes.append(require_documented(["train", *TINY, *words]))


def test_some_of_those_did_train() -> None:
    if not codes:
        pytest.skip("goes with the test before")
    assert 0.1 < codes.count(0) / len(codes) < 0.9


@settings(max_examples=8, **QUIET)
@given(flags(PriorConfig, 2))
def test_a_prior_of_a_run_without_codes(trained: Path, words: list[str]) -> None:
    if "--help" in words or "--version" in words:
        return
    assert require_documented(["train", "prior", "--run", str(trained), *words]) == MISTAKE


@settings(max_examples=8, **QUIET)
@given(USES)
def test_what_uses_a_run(folder: Path, trained: Path, words: tuple[str, str, str]) -> None:
    name, *rest = words
    with within(folder):
        require_documented([name, str(trained if name != "runs" else folder), *rest])


@pytest.mark.soak
@settings(max_examples=2000, **QUIET)
@given(flags(Config, 5))
def test_train_for_long(folder: Path, words: list[str]) -> None:
    with within(folder):
        require_documented(["train", *TINY, *words])
