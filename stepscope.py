"""The command line of stepscope: its words, and what is said where one of them cannot be done.

Every command mirrors a call of the library and has its place in `stepscope_commands`. What goes wrong is one line on
standard error and a non-zero exit: 1 for a check that failed, 2 for what was asked wrongly or cannot be had, 130 for an
interruption.

`experiment` is the one call of Python that needs a model and an analysis at once, so it is here.
"""

from __future__ import annotations

import os
import sys

from cyclopts import App, CycloptsError

from stepscope_commands._experimenting import experiment
from stepscope_commands._printing import fail
from stepscope_commands._version import version
from stepscope_commands.analyze import analyze
from stepscope_commands.capture import capture
from stepscope_commands.demo import demo
from stepscope_commands.doctor import doctor
from stepscope_commands.report import report
from stepscope_commands.reproduce import reproduce
from stepscope_commands.sql import sql

__all__ = ["app", "experiment", "main"]

app = App(
    name="stepscope",
    help="A microscope for the denoising steps of video diffusion transformers.",
    version=version,
    suppress_keyboard_interrupt=False,
)

for command in (demo, reproduce, capture, analyze, report, sql, doctor):
    app.command(command)

# Families have many commands, so their files are imported when one of them is asked for.
app.command("stepscope_commands.store:app", name="store", help="Look after a store.")
app.command(
    "stepscope_commands.worlds:app",
    name="worlds",
    help="Look at the task families, and hold their scorers to their bounds.",
)
app.command(
    "stepscope_commands.experiment:app",
    name="experiment",
    help="Plan, run and compare: change runs, and see what is left of the answer.",
)
app.command(
    "stepscope_commands.models:app",
    name="models",
    help="See which models can be traced, and what capturing one would cost.",
)
app.command("stepscope_commands.vbvr:app", name="vbvr", help="Exchange samples, videos and scores with VBVR-Bench.")


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the console script.

    Args:
        arguments: Words of the command line; None takes the process's own.

    Raises:
        SystemExit: with code 2 after one line on standard error, where something cannot be done as asked.
    """
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    # Threads that wait by spinning slow each other down many times over as soon as anything else runs.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app(arguments, print_error=False, exit_on_error=False)
    except KeyboardInterrupt:
        fail("interrupted; a capture keeps its finished runs, and the same command goes on where it stopped", code=130)
    except CycloptsError as error:
        fail(str(error))
    except BrokenPipeError:
        # The reader of our output went away (`| head`); Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except Exception as error:
        if not isinstance(error, _expected()):
            raise
        fail(str(error))


def _expected() -> tuple[type[BaseException], ...]:
    """The error bases of the layers that were imported: what is worth one line and no traceback."""
    bases = {"interp": "InterpError", "store": "StoreError", "analyses": "AnalysisError", "reports": "ReportError"}
    loaded = [(sys.modules[layer], base) for layer, base in bases.items() if layer in sys.modules]
    return tuple(getattr(module, base) for module, base in loaded)


if __name__ == "__main__":
    main()
