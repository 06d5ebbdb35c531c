"""`stepscope demo`: capture, analyse and report on the bundled model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from stepscope_commands._making import make
from stepscope_commands._printing import say
from stepscope_commands._results import kept, write_report

DEMO_SEED = 2026
"""Stream of the demo's mazes: not one that the model was trained on."""


def demo(
    *,
    out: Annotated[
        Path, Parameter(help="Folder that is made: the store in OUT/acts, the report OUT/report.html.")
    ] = Path("demo"),
    mazes: Annotated[int, Parameter(help="How many mazes.")] = 3,
    seeds: Annotated[str, Parameter(help="Seeds of each maze, e.g. 0,1 or 0-3.")] = "0,1",
) -> None:
    """Run the whole job on the bundled model: capture, analyse, report; minutes on two cores."""
    import interp
    import reports

    acts_path = out / "acts"
    samples = interp.worlds["maze"].generate(mazes, seed=DEMO_SEED)
    say(f"{mazes} mazes × seeds {seeds} through tinywan, every denoising step kept")
    model = interp.load("tinywan")
    captured = make(model, samples, interp.WITH_PIXELS, into=acts_path, seeds=interp.numbers(seeds))
    report_path = write_report(kept(acts_path), out / "report.html", runs=captured.run_ids)
    say(f"\nReport: {report_path}  (open it in a browser; it needs no network)\n\nThree questions worth asking:")
    for question, query in reports.QUERIES:
        say(f'\n# {question}\nstepscope sql --store {acts_path} "{query}"')
