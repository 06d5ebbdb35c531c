"""The benchmark frame: names, ratios, turns, what is printed and written."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks import _frame
from benchmarks._frame import Report, interleaved, main, ratio

OVERHEAD = "capture.cpu.default.overhead"


def test_a_figure_is_printed_as_one_line(capsys):
    Report().add("store.write.speed", 1234.5678, "MB/s", 7)
    assert capsys.readouterr().out == "store.write.speed 1234.57 MB/s 7\n"


@pytest.mark.parametrize(
    ("name", "unit", "n", "message"),
    [
        ("overhead", "s", 1, "dotted"),
        ("Capture.cpu", "s", 1, "dotted"),
        ("capture..cpu", "s", 1, "dotted"),
        ("capture.cpu", "MB a second", 1, "one word"),
        ("capture.cpu", "s", 0, "repetitions"),
        ("taken.name", "s", 1, "added before"),
    ],
)
def test_a_bad_figure_is_refused(name, unit, n, message):
    report = Report()
    report.add("taken.name", 1.0, "s", 1)
    with pytest.raises(ValueError, match=message):
        report.add(name, 1.0, unit, n)


def test_ratio_of_medians_lies_in_its_interval():
    rng = np.random.default_rng(1)
    bare = rng.uniform(0.9, 1.1, size=15)
    found = ratio(bare * 1.05, bare)
    assert found.value == pytest.approx(1.05)
    assert found.low == pytest.approx(1.05)
    assert found.high == pytest.approx(1.05)
    noisy = ratio(bare[::-1] * 1.05, bare)
    assert noisy.low < noisy.value < noisy.high


def test_ratio_needs_pairs():
    with pytest.raises(ValueError, match="in pairs, not 2 against 1"):
        ratio([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="in pairs, not 0 against 0"):
        ratio([], [])


def test_cases_take_turns_and_the_order_rotates(monkeypatch):
    monkeypatch.setattr(_frame.gc, "collect", lambda: 0)  # seconds each, with all that other tests have loaded
    ran: list[str] = []
    ticks = iter(range(1000))
    cases = {name: (lambda name=name: ran.append(name)) for name in "abc"}
    seconds = interleaved(cases, rounds=2, warmups=1, clock=lambda: float(next(ticks)))
    assert "".join(ran) == "cab" + "abc" + "bca"
    assert {name: values.tolist() for name, values in seconds.items()} == {name: [1.0] * 2 for name in "abc"}


def test_overhead_is_written_with_its_interval(tmp_path, capsys):
    def measure(report, *, quick):
        assert quick
        report.add_ratio(OVERHEAD, [1.1, 1.1], [1.0, 1.0], offset=-1.0)

    main(measure, description="test", argv=["--quick", "--json", str(tmp_path / "out.json")])
    written = json.loads((tmp_path / "out.json").read_text())
    assert list(written) == [OVERHEAD, f"{OVERHEAD}.low", f"{OVERHEAD}.high"]
    assert written[OVERHEAD] == {"value": pytest.approx(0.1), "unit": "ratio", "n": 2}
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_a_figure_must_be_documented(tmp_path):
    def measure(report, *, quick):
        report.add("nobody.knows.this", 1.0, "s", 1)

    path = tmp_path / "out.json"
    with pytest.raises(SystemExit, match=r"nobody\.knows\.this"):
        main(measure, description="test", argv=["--json", str(path)])
    assert "nobody.knows.this" in json.loads(path.read_text())
    assert OVERHEAD in _frame.DOCUMENTED.read_text()
