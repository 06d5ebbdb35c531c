"""The x̂0 viewer: each run's x̂0 as a video at every step, the seeds of a sample, clean and changed, side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from analyses import Result
from reports._clock import Clock
from reports._evidence import by_run, evidence
from reports._media import MAX_COLUMNS, MAX_ROWS, Sheet, evenly, picture, shrunk, video_sheet
from reports._section import Axis, Context, Film, Group, Pane, Readout, Shown, Still
from reports._words import change, some
from store import ActivationStore, dims

LOSSLESS_BYTES: Final = 10_000_000
"""What all videos together may weigh to be shown without loss."""
SPARE: Final = 0.2
"""Share of the page's limit that the videos leave to other pictures."""
MAX_RUNS: Final = 64
"""Runs whose videos are shown at most."""
POSTERS: Final = 6
"""Steps that are shown on paper and without JavaScript."""
DISTANCE: Final = "distance"
"""Name under which a run's latent distance stands beside its scores."""
FRAMES_PER_SECOND: Final = 8.0
STEPS_PER_SECOND: Final = 4.0


class _Video(NamedTuple):
    """The x̂0 of one run, as a sheet."""

    run_id: str
    sheet: Sheet
    posters: Sheet
    """A few steps of its last frame, in a row."""
    clock: Clock


class _Row(NamedTuple):
    """One run that a result tells of."""

    sample_id: str
    seed: int
    order: int
    """Of its result: clean runs stand before changed ones."""
    run_id: str
    data: xr.Dataset
    """That of its result."""
    change: str
    """What tells its result from the others of the film; empty where there is one."""

    @property
    def name(self) -> str:
        """What its pane is called."""
        seed = f"seed {self.seed}"
        return f"{seed}, {self.change}" if self.change and self.change != seed else seed


def film(result: Result, context: Context, salt: str) -> tuple[Film | None, tuple[str, ...]]:
    """The film of all `trajectory` results of the page, under the first of them; or why there is none.

    Clean and changed runs of a sample stand beside each other, under the same sliders.

    Args:
        result: The result whose section is drawn.
        context: Where the pictures come from, and what they may weigh; every number comes from its results.
        salt: Short id, unique on the page.
    """
    together = context.of("trajectory") or (result,)
    if together[0].id != result.id:
        name = context.name(result) or change(context.changes(result))
        return None, (f"Videos of these runs ({name}) stand beside the first ones, above.",)
    rows = _rows_of(together, context)
    acts = context.acts
    wanted = list(rows)
    having = [run_id for run_id in wanted if _has_pixels(acts, run_id)]
    if not having:
        return None, ("No run kept x0_hat/pixels, so there is no video of x̂0; capture with that item to see it.",)
    first = acts.load("x0_hat", "pixels", runs=having[:1])
    steps = first[dims.STEP].to_numpy()[evenly(first.sizes[dims.STEP], MAX_ROWS)]
    frames = first[dims.FRAME].to_numpy()[evenly(first.sizes[dims.FRAME], MAX_COLUMNS)]
    videos, apart = _videos(context, having[:MAX_RUNS], Clock(having[0], steps, frames))
    if not videos:
        return None, ("The videos of x̂0 are larger than a page may be; render fewer runs, or a smaller capture.",)
    groups = _groups(context, rows, videos, steps=steps)
    context.shown |= {
        video.run_id: Shown(f"{salt}-x0-{at}", tuple(map(int, video.clock.steps)), tuple(map(int, video.clock.frames)))
        for at, video in enumerate(videos)
    }
    data = rows[having[0]].data
    made = Film(
        id=f"{salt}-x0",
        title="x̂0 of each step",
        axes=(
            Axis("step", _step_labels(data, steps), 1, 0, len(steps) - 1, STEPS_PER_SECOND, tuple(map(int, steps))),
            Axis("frame", _frame_labels(frames), 0, 1, len(frames) - 1, FRAMES_PER_SECOND, tuple(map(int, frames))),
        ),
        sheets=tuple(video.sheet for video in videos),
        groups=groups,
        caption=_caption(rows, videos, groups, first, frames),
        pixelated=videos[0].sheet.width < 100,
        quantities=("score_by_run", "latent_distance_by_run", "answer_commit_by_run"),
        left_out=_left_out(wanted, having, videos, apart, first, steps, frames),
    )
    return made, ()


def _videos(context: Context, run_ids: Sequence[str], clock: Clock) -> tuple[list[_Video], int]:
    """As many runs as the page can carry, in their order, and how many of them cannot follow the clock.

    All are shown without loss if the first one is small enough for that.
    """
    spare = int(SPARE * context.media_bytes)
    each = min(LOSSLESS_BYTES, context.media_bytes - spare) / len(run_ids)
    videos: list[_Video] = []
    apart = 0
    lossless: bool | None = None
    for run_id in run_ids:
        pixels = context.acts.load("x0_hat", "pixels", runs=[run_id]).isel(run=0)
        own = clock.of(context.acts, run_id, pixels)
        if own is None:
            apart += 1
            continue
        # A step at a time: the whole of a large video would not fit into memory.
        chosen = (pixels.sel({dims.STEP: int(step), dims.FRAME: own.frames}).to_numpy() for step in own.steps)
        video = np.stack([shrunk(one) for one in chosen])
        sheet = video_sheet(video, lossless=lossless in (None, True))
        if lossless is None:
            lossless = sheet.nbytes <= each
            sheet = sheet if lossless else video_sheet(video, lossless=False)
        posters = video_sheet(video[None, evenly(len(own.steps), POSTERS), -1], lossless=not sheet.lossy)
        if not context.afford(sheet.nbytes + posters.nbytes, spare=spare):
            break
        videos.append(_Video(run_id, sheet, posters, own))
    return videos, apart


def _groups(
    context: Context, rows: dict[str, _Row], videos: Sequence[_Video], *, steps: NDArray[Any]
) -> tuple[Group, ...]:
    explored = by_run(context)
    by_sample: dict[str, list[Pane]] = {}
    for position, video in enumerate(videos):
        row = rows[video.run_id]
        own = None if np.array_equal(video.clock.steps, steps) else context.acts.run(row.run_id).run.settings.steps
        pane = _pane(row, position, explored.get(row.run_id), video.posters, steps=video.clock.steps, of_steps=own)
        by_sample.setdefault(row.sample_id, []).append(pane)
    groups: list[Group] = []
    for sample_id, panes in by_sample.items():
        sample = context.acts.sample(sample_id)
        family = " · ".join(part for part in (sample.record.family, sample.record.difficulty, sample_id) if part)
        groups.append(Group(family, sample.record.prompt, picture(sample.first_frame), tuple(panes)))
    return tuple(groups)


def _pane(
    of: _Row,
    sheet: int,
    explored: xr.Dataset | None,
    posters: Sheet,
    *,
    steps: NDArray[Any],
    of_steps: int | None,
) -> Pane:
    """`of_steps`: how many steps the run has, where these are not the clock's; it then says at which it is."""
    run = of.data.sel(run=of.run_id)
    rows = _rows(run, steps)
    held = None if explored is None else evidence(explored, of.run_id, steps)
    scores = [name for name in rows if name != DISTANCE]
    strip = scores[0] if scores else ""
    commit = float(run["answer_commit_by_run"]) if "answer_commit_by_run" in run else math.nan
    mark = int(np.searchsorted(steps, commit)) if math.isfinite(commit) else len(steps)
    readouts = tuple(Readout(name, tuple(_text(value) for value in values)) for name, values in rows.items())
    told = ", ".join(f"{readout.name} {readout.texts[-1]}" for readout in readouts)
    if of_steps is not None:
        readouts = (Readout("its step", tuple(f"{step} of {of_steps}" for step in steps)), *readouts)
    name = of.name
    return Pane(
        sheet=sheet,
        row=0,
        column=0,
        title=name,
        alt=f"x̂0 of {name}; at the last step shown: {told or 'no score'}",
        still=Still(posters, tuple(f"step {steps[at]}" for at in evenly(len(steps), POSTERS)), posters.columns - 1),
        readouts=readouts if held is None else (held.strongest, *readouts),
        note=f"right answer from step {commit:.0f} on" if math.isfinite(commit) else _why_uncommitted(run),
        strip=tuple(float(value) for value in np.nan_to_num(rows[strip])) if strip else (),
        strip_name=strip,
        curves=None if held is None else held.curves,
        mark=mark if mark < len(steps) else None,
        choice=("run", of.run_id),
    )


def _rows(run: xr.Dataset, steps: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """What stands under a run at the shown steps, by name: the scores, then the distance."""
    rows: dict[str, xr.DataArray] = {}
    if "score_by_run" in run:
        metrics = sorted((str(metric) for metric in run["metric"].to_numpy()), key=lambda name: name != "answer")
        rows |= {metric: run["score_by_run"].sel(metric=metric) for metric in metrics}
    if "latent_distance_by_run" in run:
        rows[DISTANCE] = run["latent_distance_by_run"]
    shown = {name: row.reset_coords(drop=True).reindex({dims.STEP: steps}).to_numpy() for name, row in rows.items()}
    return {name: values for name, values in shown.items() if np.isfinite(values).any()}


def _text(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else "–"


def _why_uncommitted(run: xr.Dataset) -> str:
    if "answer_commit_by_run" not in run:
        return ""
    final = float(run["final_score_by_run"].sel(metric="answer"))
    return f"ends wrong (answer {final:.2f})" if final < 0.5 else "answer settles in the finished video only"


def _rows_of(together: Sequence[Result], context: Context) -> dict[str, _Row]:
    """The runs of all results by their ids; seeds of a sample beside each other, a changed run after its clean one.

    Samples of which most results have a run stand first: there is most to compare.
    """
    rows: list[_Row] = []
    for order, result in enumerate(together):
        data = result.to_dataset().compute()
        name = context.name(result)
        told = zip(data["sample_id"].to_numpy(), data["seed"].to_numpy(), data["run"].to_numpy(), strict=True)
        rows += [_Row(str(sample), int(seed), order, str(run), data, name) for sample, seed, run in told]
    chosen = [row for row in rows if context.runs is None or row.run_id in context.runs]
    orders: dict[str, set[int]] = {}
    for row in chosen:
        orders.setdefault(row.sample_id, set()).add(row.order)
    return {row.run_id: row for row in sorted(chosen, key=lambda row: (-len(orders[row.sample_id]), *row[:4]))}


def _has_pixels(acts: ActivationStore, run_id: str) -> bool:
    return any((array.site, array.reduction) == ("x0_hat", "pixels") for array in acts.run(run_id).arrays)


def _step_labels(data: xr.Dataset, steps: NDArray[Any]) -> tuple[str, ...]:
    known = data.reindex({dims.STEP: steps})
    sigmas = known["sigma"].to_numpy()
    experts = [str(expert) for expert in known["expert"].to_numpy()] if data.attrs["switches"] else [""] * len(steps)
    return tuple(
        f"{step}" + (f" · σ {sigma:.2f}" if math.isfinite(sigma) else "") + (f" · {expert}" if expert else "")
        for step, sigma, expert in zip(steps, sigmas, experts, strict=True)
    )


def _frame_labels(frames: NDArray[Any]) -> tuple[str, ...]:
    return tuple(str(frame) for frame in frames)


def _caption(
    rows: dict[str, _Row],
    videos: Sequence[_Video],
    groups: Sequence[Group],
    first: xr.DataArray,
    frames: NDArray[Any],
) -> str:
    panes = [pane for group in groups for pane in group.panes]
    bars = next((pane.strip_name for pane in panes if pane.strip and pane.curves is None), "")
    curves = " or ".join(dict.fromkeys(pane.curves.name for pane in panes if pane.curves is not None))
    native = f"{first.sizes[dims.X]} × {first.sizes[dims.Y]}"
    shown = f"{videos[0].sheet.width} × {videos[0].sheet.height}"
    several = len({(video.sheet.width, video.sheet.height) for video in videos}) > 1
    size = (
        "their own size" if several else f"{native} pixels" if native == shown else f"{native} pixels, shown at {shown}"
    )
    samples = len({rows[video.run_id].sample_id for video in videos})
    coding = "lossy WebP, to look at and not to measure" if videos[0].sheet.lossy else "lossless WebP"
    text = (
        f"n = {some(samples, 'sample')}, {some(len(videos), 'run')}; {some(len(frames), 'frame')} of {size}; {coding}. "
        "Each run is shown on its own, so no interval."
    )
    text += f" Curves: {curves}, by step." if curves else ""
    text += f" Bars: {bars} of x̂0 by step." if bars else ""
    if len({tuple(video.clock.steps) for video in videos}) > 1:
        text += " One clock for runs of different steps: each shows its step of the nearest σ."
    if any(pane.mark is not None for pane in panes):
        text += " ▲: step from which the right answer stays."
    return text


def _left_out(
    wanted: Sequence[str],
    having: Sequence[str],
    videos: Sequence[_Video],
    apart: int,
    first: xr.DataArray,
    steps: NDArray[Any],
    frames: NDArray[Any],
) -> str:
    left: list[str] = []
    if len(having) < len(wanted):
        left.append(f"{len(wanted) - len(having)} runs that kept no pixels of x̂0")
    if apart:
        left.append(f"{some(apart, 'run')} that kept x̂0 at other steps")
    if len(videos) + apart < len(having):
        left.append(
            f"{len(having) - len(videos) - apart} of {len(having)} runs (the page's limit; choose runs to see others)"
        )
    for dim, shown in ((dims.STEP, steps), (dims.FRAME, frames)):
        if len(shown) < first.sizes[dim]:
            left.append(f"{first.sizes[dim] - len(shown)} of {first.sizes[dim]} {dim}s, evenly")
    return f"Not shown: {'; '.join(left)}." if left else ""
