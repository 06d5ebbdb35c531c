"""`stepscope store …`: look after a store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from stepscope_commands._options import Json, StorePath, Where
from stepscope_commands._printing import fail, print_json, print_table, say
from stepscope_commands._version import version
from stepscope_commands.sql import sql

if TYPE_CHECKING:
    import store

app = App(name="store", version=version)


@app.command
def ls(path: StorePath, *, json_: Json = False) -> None:
    """List the runs of a store."""
    sql(
        "SELECT run_id, model, coalesce(family, '') AS family, seed, steps, guidance, frames, "
        "round(seconds, 1) AS seconds, stored AS bytes, started "
        "FROM runs LEFT JOIN samples USING (sample_id) ORDER BY started, run_id",
        store=path,
        json_=json_,
    )


@app.command
def info(path: StorePath, *, json_: Json = False) -> None:
    """Show what a store holds: sizes by site and reduction, compression, what a full read costs, unfinished runs."""
    import store
    from store import maintenance

    acts = store.open(path)
    held = acts.info()
    speed = maintenance.read_speed(acts)
    reading = {
        "bytes": held.stored,
        "bytes_per_second": None if speed is None else round(speed),
        "seconds": None if speed is None else float(f"{held.stored / speed:.3g}"),
    }
    arrays = _by_array(held)
    if json_:
        about = {"compression": _ratio(held.nbytes, held.stored), "full_read": reading}
        print_json({"runs": held.runs, **about, "incomplete": list(held.incomplete), "arrays": arrays})
        return
    say(repr(acts))
    columns = ["site", "reduction", "runs", "dtype", "files", "bytes", "stored", "compression"]
    print_table(columns, [tuple(array.values()) for array in arrays])
    if speed is not None:
        say(
            f"compression {_ratio(held.nbytes, held.stored)}; a full read takes {held.stored / 1e6:.1f} MB, about "
            f"{held.stored / speed:.2f} s at {speed / 1e6:.1f} MB/s (measured now on a little of it)"
        )
    if held.incomplete:
        say(
            f"{len(held.incomplete)} folders of runs that were never finished, invisible to every query: "
            + ", ".join(held.incomplete)
        )


@app.command
def verify(
    path: StorePath,
    *,
    fresh: Annotated[bool, Parameter(negative="", help="Begin anew where an earlier pass was stopped.")] = False,
    json_: Json = False,
) -> None:
    """Compare every file with its checksum; name each damage in a line, and exit with 1 if there is any."""
    import store
    from store import maintenance

    found = maintenance.verify(store.open(path), fresh=fresh, progress=not json_)
    if json_:
        print_json({**found._asdict(), "damages": [damage._asdict() for damage in found.damages]})
    else:
        for damage in found.damages:
            say(str(damage))
        earlier = f", {found.earlier} before" if found.earlier else ""
        say(f"{found.checked} runs, samples and results checked{earlier}: {found.nbytes / 1e6:.1f} MB")
    if found.damages:
        fail(f"{len(found.damages)} files are damaged", code=1)


@app.command
def gc(
    path: StorePath,
    *,
    grace_hours: Annotated[float, Parameter(help="Leave alone what was written to within this time.")] = 24.0,
    yes: Annotated[bool, Parameter(negative="", help="Remove; without it, only say what would be removed.")] = False,
    json_: Json = False,
) -> None:
    """Find what crashed writers left, and with --yes remove it."""
    import store
    from store import maintenance

    acts = store.open(path)  # never makes a store
    acts = store.open(path, mode="a") if yes else acts
    found = maintenance.collect(acts, grace_s=grace_hours * 3600, remove=yes)
    if json_:
        print_json({"removed": found.removed, "leftovers": [one._asdict() for one in found.leftovers]})
        return
    for one in found.leftovers:
        say(f"{one.path}: {one.files} files, {one.nbytes / 1e6:.1f} MB, untouched for {one.age_s / 3600:.1f} h")
    told = "removed" if found.removed else "to be removed; add --yes to remove them"
    say(f"{len(found.leftovers)} leftovers, {found.nbytes / 1e6:.1f} MB, {told}")
    if found.young:
        say(f"{len(found.young)} more were written to within {grace_hours:g} h and may be at work")


@app.command
def reindex(path: StorePath) -> None:
    """Make the cached index anew from the manifests."""
    import store

    acts = store.open(path)
    acts.reindex()
    say(repr(acts))


@app.command
def copy(
    source: StorePath,
    target: Annotated[Path, Parameter(help="The same; made if it is missing.")],
    *,
    where: Where = None,
    json_: Json = False,
) -> None:
    """Copy runs with their samples and results into another store; goes on where it was stopped."""
    import store
    from store import maintenance

    opened = store.open(source)
    found = maintenance.copy(opened, store.open(target, mode="a"), where=where, progress=not json_)
    if json_:
        print_json(found._asdict())
    else:
        say(
            f"{found.runs} runs, {found.samples} samples, {found.results} results copied, {found.already} were there: "
            f"{found.nbytes / 1e6:.1f} MB sent"
        )


@app.command
def export(
    path: StorePath,
    array: Annotated[str, Parameter(help="SITE/REDUCTION, e.g. resid_post/energy.")],
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"], help="File to write: .npy, .safetensors or .nc.")],
    where: Where = None,
    step: Annotated[list[int] | None, Parameter(negative="", help="Step to take; repeatable.")] = None,
    layer: Annotated[list[int] | None, Parameter(negative="", help="Layer to take; repeatable.")] = None,
    branch: Annotated[list[str] | None, Parameter(negative="", help="Branch to take; repeatable.")] = None,
    frame: Annotated[list[int] | None, Parameter(negative="", help="Frame to take; repeatable.")] = None,
    by: Annotated[
        list[str] | None,
        Parameter(negative="", help="Column of runs or samples to order and label runs by; repeatable."),
    ] = None,
    overwrite: Annotated[bool, Parameter(negative="", help="Replace OUT if it is there.")] = False,
) -> None:
    """Write one array of the chosen runs to a file that other programs read."""
    import store
    from store import maintenance

    site, _, reduction = array.partition("/")
    loaded = store.open(path).load(
        site, reduction, where=where, step=step, layer=layer, branch=branch, frame=frame, by=by or ()
    )
    found = maintenance.export(loaded, out, overwrite=overwrite)
    shape = " × ".join(f"{size} {name}" for name, size in loaded.sizes.items())
    say(f"{found.path}: {found.dtype}, {shape}, {found.nbytes / 1e6:.1f} MB")


def _by_array(held: store.StoreInfo) -> list[dict[str, Any]]:
    """What each site and reduction takes, over all runs."""
    return [
        {
            "site": array.site,
            "reduction": array.reduction,
            "runs": array.runs,
            "dtype": array.dtype,
            "files": array.files,
            "bytes": array.nbytes,
            "stored": array.stored,
            "compression": _ratio(array.nbytes, array.stored),
        }
        for array in sorted(held.arrays)
    ]


def _ratio(nbytes: int, stored: int) -> float:
    """How much smaller values are on disk."""
    return round(nbytes / max(stored, 1), 2)
