"""The frame that every benchmark shares: arguments, interleaved timing, figures with stable names.

A script measures in one function and hands it to `main`:

    def measure(report: Report, *, quick: bool) -> None:
        seconds = interleaved({"bare": bare, "traced": traced}, rounds=5 if quick else 15)
        report.add_ratio("capture.cpu.default.overhead", seconds["traced"], seconds["bare"])

    if __name__ == "__main__":
        main(measure, description=__doc__)

Machines differ and drift, so what counts is a ratio of cases that took turns in one run; seconds are context.
"""

from __future__ import annotations

import argparse
import gc
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

NAME = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)+")
INTERVAL = ("low", "high")
"""Last parts of the names of a ratio's 95 % interval."""
DOCUMENTED = Path(__file__).with_name("README.md")
RESAMPLES = 10_000


class Figure(NamedTuple):
    """One number with the unit and the count of repetitions behind it."""

    value: float
    unit: str
    n: int


class Interval(NamedTuple):
    """A point estimate between the ends of its 95 % interval."""

    value: float
    low: float
    high: float


class Measure(Protocol):
    """What a benchmark script supplies: it measures, and adds its figures to the report."""

    def __call__(self, report: Report, *, quick: bool) -> None:
        """Measure; `quick` asks for a run of seconds whose figures prove only that the script works."""
        ...


class Report:
    """The figures of one script, each printed as `name value unit n` when it is added."""

    def __init__(self) -> None:
        self.figures: dict[str, Figure] = {}

    def add(self, name: str, value: float, unit: str, n: int) -> None:
        """Print a figure and keep it.

        Args:
            name: Dotted lower-case name: subject, place, case, quantity. It never changes its meaning.
            value: The number.
            unit: One word, e.g. `s`, `ratio`, `MB/s`.
            n: Repetitions behind it.

        Raises:
            ValueError: if the name is malformed or taken, the unit is not one word, or n is not positive.
        """
        if not NAME.fullmatch(name):
            raise ValueError(f"not a dotted lower-case name: {name!r}; write it like capture.cpu.default.overhead")
        if name in self.figures:
            raise ValueError(f"{name} was added before; one name is one figure")
        if len(unit.split()) != 1:
            raise ValueError(f"the unit of {name} must be one word, not {unit!r}")
        if n < 1:
            raise ValueError(f"{name} rests on {n} repetitions; a figure needs at least one")
        self.figures[name] = Figure(float(value), unit, n)
        print(f"{name} {value:.6g} {unit} {n}", flush=True)

    def add_median(self, name: str, values: Sequence[float] | NDArray[np.float64], unit: str = "s") -> None:
        """Add the median of `values`, one a repetition."""
        self.add(name, float(np.median(values)), unit, len(values))

    def add_interval(self, name: str, values: Sequence[float] | NDArray[np.float64], unit: str = "s") -> None:
        """Add the median of `values`, and its 95 % bootstrap interval as `name.low` and `name.high`."""
        drawn = np.asarray(values, float)
        picks = np.random.default_rng(0).integers(len(drawn), size=(10_000, len(drawn)))
        ends = np.percentile(np.median(drawn[picks], axis=1), [2.5, 97.5])
        self.add_median(name, drawn, unit)
        for end, value in zip(INTERVAL, ends, strict=True):
            self.add(f"{name}.{end}", float(value), unit, len(drawn))

    def add_ratio(
        self,
        name: str,
        numerator: Sequence[float] | NDArray[np.float64],
        denominator: Sequence[float] | NDArray[np.float64],
        *,
        unit: str = "ratio",
        offset: float = 0.0,
    ) -> None:
        """Add `ratio(numerator, denominator) + offset`, and its interval as `name.low` and `name.high`.

        Args:
            name: The figure's name.
            numerator: One value a round.
            denominator: One value a round, of the same rounds.
            unit: Unit of the figure.
            offset: -1 turns a ratio into an overhead (0.03 = 3 % more).
        """
        interval = ratio(numerator, denominator)
        n = len(numerator)
        self.add(name, interval.value + offset, unit, n)
        for end in INTERVAL:
            self.add(f"{name}.{end}", getattr(interval, end) + offset, unit, n)

    def undocumented(self) -> list[str]:
        """Names of figures that `benchmarks/README.md` does not list; an interval goes with its ratio."""
        listed = set(re.findall(r"`([^`\s]+)`", DOCUMENTED.read_text()))
        stems = {name.rpartition(".")[0] for name in self.figures if name.rpartition(".")[2] in INTERVAL}
        own = [name for name in self.figures if name.rpartition(".")[0] not in stems]
        return [name for name in own if name not in listed]

    def write(self, path: Path) -> None:
        """Write `{name: {value, unit, n}}` as JSON."""
        figures = {name: figure._asdict() for name, figure in self.figures.items()}
        path.write_text(json.dumps(figures, indent=2, allow_nan=False) + "\n")


def interleaved(
    cases: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    warmups: int = 1,
    clock: Callable[[], float] = time.perf_counter,
    after: Callable[[str], object] = lambda name: None,
) -> dict[str, NDArray[np.float64]]:
    """Time cases that take turns, so that what the machine does meanwhile falls on all of them alike.

    Args:
        cases: What to time, by name.
        rounds: How often each case is timed. The order rotates by one from round to round.
        warmups: Rounds before those, not timed.
        clock: Seconds; `time.process_time` counts the CPU's instead of the wall's.
        after: Called with the case's name after each, outside the time: tidies up.

    Returns:
        Seconds of each case, one a round, so that values of one round can be paired.

    Raises:
        ValueError: if `rounds` is not positive.
    """
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, not {rounds}")
    names = list(cases)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(-warmups, rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            gc.collect()
            start = clock()
            cases[name]()
            elapsed = clock() - start
            after(name)
            if turn >= 0:
                seconds[name].append(elapsed)
    return {name: np.array(values) for name, values in seconds.items()}


def ratio(
    numerator: Sequence[float] | NDArray[np.float64],
    denominator: Sequence[float] | NDArray[np.float64],
    *,
    seed: int = 0,
) -> Interval:
    """Ratio of two medians, with the 95 % percentile interval of a bootstrap over rounds.

    Args:
        numerator: One value a round.
        denominator: One value a round, of the same rounds: pairs are resampled together.
        seed: Seed of the resampling.

    Raises:
        ValueError: if the two differ in length or are empty.
    """
    if len(numerator) != len(denominator) or len(numerator) == 0:
        raise ValueError(f"a ratio needs rounds in pairs, not {len(numerator)} against {len(denominator)}")
    pairs = np.array([numerator, denominator], dtype=np.float64)
    above, below = np.median(pairs, axis=1)
    picks = np.random.default_rng(seed).integers(pairs.shape[1], size=(RESAMPLES, pairs.shape[1]))
    medians = np.median(pairs[:, picks], axis=2)
    low, high = np.percentile(medians[0] / medians[1], [2.5, 97.5])
    return Interval(float(above / below), float(low), float(high))


def main(measure: Measure, *, description: str | None, argv: Sequence[str] | None = None) -> None:
    """Run a benchmark script: read its arguments, measure, print, write.

    Args:
        measure: The script's own part.
        description: The script's docstring, shown by `--help`.
        argv: Arguments; None reads the command line.

    Raises:
        SystemExit: if a figure's name is missing from `benchmarks/README.md`, after everything is written.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write {name: {value, unit, n}} to FILE")
    parser.add_argument("--quick", action="store_true", help="few repetitions: proves that the script works")
    arguments = parser.parse_args(argv)
    report = Report()
    measure(report, quick=arguments.quick)
    if arguments.json is not None:
        report.write(arguments.json)
    if missing := report.undocumented():
        raise SystemExit(f"not in {DOCUMENTED.name}: {', '.join(missing)}; say there what each figure means")
