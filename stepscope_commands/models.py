"""`stepscope models …`: which models can be traced, and what capturing one would cost."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import App, Parameter

from stepscope_commands._options import Frames, Guidance, Json, Model, Pixels, Revision, Steps
from stepscope_commands._printing import print_json, print_table, say
from stepscope_commands._version import version

app = App(name="models", version=version)


@app.command
def ls(
    *,
    refused: Annotated[bool, Parameter(negative="", help="List what cannot be traced, and why, instead.")] = False,
    json_: Json = False,
) -> None:
    """List the video pipelines that can be traced, by family."""
    from interp import catalogue

    if refused:
        columns, rows = ["pipeline", "reason"], [row._asdict() for row in catalogue.refused()]
    else:
        columns = ["family", "pipeline", "guidance", "sites"]
        rows = [{**row._asdict(), "sites": list(row.sites)} for row in catalogue.traceable()]
    if json_:
        print_json(rows)
        return
    shown = [{**row, "sites": ", ".join(row["sites"])} if "sites" in row else row for row in rows]
    print_table(columns, [tuple(row.values()) for row in shown])


@app.command
def info(
    model: Model = "tinywan",
    *,
    revision: Revision = None,
    steps: Steps = None,
    guidance: Guidance = None,
    height: Pixels = None,
    width: Pixels = None,
    frames: Frames = None,
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"], Parameter(help="Dtype that the weights would have.")
    ] = "bfloat16",
    json_: Json = False,
) -> None:
    """Say from a model's configuration, without its weights, what capturing a run would cost, by site and reduction."""
    import torch

    from interp import catalogue, forecast

    kind: torch.dtype = getattr(torch, dtype)
    loaded = catalogue.skeleton(model, dtype=kind, revision=revision)
    asked = loaded.settings(steps=steps, guidance=guidance, height=height, width=width, frames=frames)
    found = catalogue.cost(loaded, asked)
    speed = forecast.measure(torch.device("cuda" if torch.cuda.is_available() else "cpu"), kind)
    seconds = speed.seconds(found.flops)
    if json_:
        costs = [cost._asdict() for cost in found.costs]
        about = {"settings": found.settings.model_dump(mode="json"), "costs": costs}
        print_json({**found._asdict(), **about, "time": {"seconds": seconds, **speed._asdict()}})
        return
    say(str(found))
    say(f"time of a run: about {forecast.duration(seconds)}; {speed}")
    print_table(*found.table())
    say("Bytes of one run, uncompressed: all layers, heads and steps, one branch; of pattern, one query.")
