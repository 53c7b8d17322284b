from __future__ import annotations

import json
import math
import re
from io import StringIO
from pathlib import Path

import pytest
import torch
from benchmarks.report import Machine, Report, Row, command_line, parser, processor_flags, row_of
from rich.console import Console

from benchmarks import report

KEYS = {"case", "ours", "peer", "peer_name", "unit", "ratio", "target"}


def machine() -> Machine:
    return Machine.here("python -m benchmarks.some --quick")


def shown(given: Report) -> str:
    buffer = StringIO()
    given.show(Console(file=buffer, width=200))
    return buffer.getvalue()


def test_ratio_is_above_one_where_ours_is_better() -> None:
    speed = row_of("speed", 300.0, 200.0, "peer", "images/s", target=1.4)
    memory = row_of("memory", 300.0, 200.0, "peer", "MB", higher_is_better=False, target=1.0)
    assert speed.ratio == pytest.approx(1.5)
    assert memory.ratio == pytest.approx(2 / 3)
    assert speed.met is True
    assert memory.met is False
    assert row_of("no target", 1.0, 2.0, "peer", "s").met is None


def test_target_reached_exactly_is_met() -> None:
    assert row_of("edge", 2.0, 1.0, "peer", "images/s", target=2.0).met is True


@pytest.mark.parametrize(("ours", "peer"), [(0.0, 1.0), (1.0, -1.0), (math.nan, 1.0)])
def test_ratio_needs_positive_numbers(ours: float, peer: float) -> None:
    with pytest.raises(ValueError, match="some case: a ratio needs two positive numbers"):
        row_of("some case", ours, peer, "peer", "s")


def test_json_has_the_rows_and_the_machine(tmp_path: Path) -> None:
    row = row_of("speed", 300.0, 200.0, "peer", "images/s", target=1.4, note="how")
    file = tmp_path / "new" / "out.json"
    Report("some", machine(), False, [row], ["remark"]).write(file)
    found = json.loads(file.read_text(encoding="utf-8"))
    assert found["rows"][0].keys() >= KEYS
    assert Row(**found["rows"][0]) == row
    assert found["machine"]["torch"] == torch.__version__
    assert found["machine"]["threads"] == torch.get_num_threads()
    assert found["notes"] == ["remark"]
    assert list(file.parent.iterdir()) == [file]


def test_json_of_nan_is_refused_and_the_old_file_kept(tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    file.write_text("before")
    with pytest.raises(ValueError, match="Out of range float"):
        Report("some", machine(), False, [Row("c", math.nan, 1.0, "p", "s", 1.0, None)]).write(file)
    assert file.read_text() == "before"


def test_table_says_ratio_target_and_whether_it_was_met() -> None:
    rows = [
        row_of("fast enough", 30_000.0, 10_000.0, "them", "images/s", target=2.0, note="how it went"),
        row_of("too slow", 1.0, 10.0, "them", "images/s", target=2.0),
        row_of("for the record", 1.0, 1.0, "them", "MB"),
    ]
    text = shown(Report("some", machine(), False, rows, ["a remark"]))
    lines = {row.case: next(line for line in text.splitlines() if row.case in line) for row in rows}
    assert re.search(r"30,000 .* 10,000 .* 3\.000 .* 2 .* yes", lines["fast enough"])
    assert re.search(r"0\.100 .* 2 .* NO", lines["too slow"])
    assert "yes" not in lines["for the record"]
    assert "NO" not in lines["for the record"]
    assert "how it went" in text
    assert "a remark" in text
    assert torch.__version__ in text
    assert "python -m benchmarks.some --quick" in text


def test_quick_judges_nothing() -> None:
    text = shown(Report("some", machine(), True, [row_of("c", 1.0, 10.0, "them", "s", target=2.0)]))
    assert "not judged" in text
    assert "NO" not in text


def test_negative_log_likelihoods_are_shown_with_two_decimals() -> None:
    row = Row("c", -86.123, -86.76, "paper", "nats", 86.76 / 86.123, None)
    assert re.search(r"-86\.12 .* -86\.76 .* 1\.007", shown(Report("some", machine(), False, [row])))


def test_machine_reads_processor_and_flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text("processor\t: 0\nmodel name\t: Some CPU @ 3 GHz\nflags\t\t: fpu amx_bf16\n")
    monkeypatch.setattr(report, "CPUINFO", file)
    assert machine().processor == "Some CPU @ 3 GHz"
    assert processor_flags() == {"fpu", "amx_bf16"}
    monkeypatch.setattr(report, "CPUINFO", tmp_path / "missing")
    assert machine().processor != ""
    assert processor_flags() == frozenset()


def test_command_can_be_typed_again() -> None:
    assert command_line("some", ["--json", "my file.json"]) == "python -m benchmarks.some --json 'my file.json'"


def test_common_options(capsys: pytest.CaptureFixture[str]) -> None:
    given = parser("some", "What it measures.").parse_args(["--quick", "--json", "x.json"])
    assert given.quick
    assert given.json == Path("x.json")
    with pytest.raises(SystemExit) as error:
        parser("some", None).parse_args(["--fast"])
    assert error.value.code == 2
    assert "--fast" in capsys.readouterr().err
