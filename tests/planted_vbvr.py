"""A benchmark of four samples in VBVR-Bench's layout, runs on it, and a stand-in for its evaluation kit.

The stand-in writes result files as `run_evaluation.py` and `evaluate.py` of VBVR-EvalKit (commit 275472f) do. Its score
is how much of a video's last frame has the colour of the true one, so that what each video must get is known.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

import store
from interp import videos
from tests.store import small

SPLITS = ("In-Domain_50", "Out-of-Domain_50")
TASKS = {"In-Domain_50": "G-3_stable_sort_data-generator", "Out-of-Domain_50": "O-39_maze_data-generator"}
SIDE, FRAMES = 32, 6
RED, BLUE = (200, 30, 30), (30, 30, 200)


def film(*, end: tuple[int, int, int] = BLUE, frames: int = FRAMES, side: int = SIDE) -> NDArray[np.uint8]:
    """A red video whose last frame is of another colour, uint8 `[frame, y, x, 3]`."""
    video = np.empty((frames, side, side, 3), np.uint8)
    video[:-1], video[-1] = RED, end
    return video


def benchmark(folder: Path, *, samples: int = 2, listed: bool = True) -> Path:
    """Write the benchmark: a task in each split."""
    entries: list[dict[str, str]] = []
    for split, task in TASKS.items():
        for number in range(samples):
            name = f"{split}/{task}/{number:05d}"
            there = folder / name
            there.mkdir(parents=True)
            video = film()
            video[:, 0, 0] = number * 40 + len(task)  # no two first frames are alike
            PIL.Image.fromarray(video[0]).save(there / "first_frame.png")
            PIL.Image.fromarray(video[-1]).save(there / "final_frame.png")
            (there / "prompt.txt").write_text(f" Solve {task} {number}, please.\n")
            videos.write(video, there / "ground_truth.mp4", fps=16)
            image = base64.b64encode((there / "first_frame.png").read_bytes()).decode()
            entry = {"first_image": image, "prompt": (there / "prompt.txt").read_text()}
            paths = {f"{key}_path": f"{name}/{key}.png" for key in ("first_frame", "final_frame")}
            entries.append({"id": f"{task}_{number}", **entry, **paths, "prompt_path": f"{name}/prompt.txt"})
    if listed:
        (folder / "VBVR-Bench.json").write_text(json.dumps(entries))
    return folder


def run(
    acts: store.ActivationStore, sample: store.Sample, video: NDArray[np.uint8], *, seed: int = 0, **changes: Any
) -> str:
    """A run on a sample that made this video; its id. With a `parent_id`, it is one that was intervened in."""
    sample_id = acts.put_sample(sample)
    if "parent_id" in changes:
        changes |= {"interventions": ({"kind": "noise_at_step"},)}
    with acts.begin_run(small.run(seed, sample_id=sample_id, **changes), small.PROVENANCE) as writer:
        dims = ("frame", "y", "x", "channel")
        writer.add_array("output", "pixels", dims=dims, shape=video.shape, dtype="uint8", coords={}, profile="compact")
        writer.write("output", "pixels", {}, video)
        writer.set_steps(small.infos(2))
        return writer.commit(1.0)


def score(video: Path, truth: Path) -> float:
    """How much of the last frame is as the true one."""
    last, end = videos.read(video)[-1].astype(int), videos.read(truth)[-1].astype(int)
    return round(float((np.abs(last - end).max(axis=-1) < 40).mean()), 2)


def kit(out: Path, *, changed: dict[str, dict[str, Any]] | None = None, old: bool = False) -> Path:
    """Score every video of an export; `changed` replaces fields of entries by `model/index`.

    Returns:
        The folder of the results.
    """
    scores = out / "scores"
    scores.mkdir(exist_ok=True)
    for model in sorted((out / "videos").iterdir()):
        entries: list[dict[str, Any]] = []
        for video in sorted(model.glob("*/*/*.mp4")):
            split, task, name = video.parts[-3:]
            value = score(video, out / "gt" / split / task / video.stem / "ground_truth.mp4")
            entry = {
                "video_path": str(video),
                "task_name": task,
                "score": value,
                "dimensions": {"task_specific": value},
            }
            own = {"video_idx": video.stem} if old else {"video_file": name, "folder": split, "error": None}
            replaced = (changed or {}).get(f"{model.name}/{video.stem}", {})
            entries.append({**entry, **own, "split": split[:-3].replace("-", "_"), **replaced})
        if old:
            (scores / f"{model.name}_eval_results.json").write_text(json.dumps({"overall": {}, "detailed": entries}))
        else:
            text = json.dumps({"model_name": model.name, "samples": entries, "summary": {}})
            (scores / f"{model.name}_vbvr_results.json").write_text(text)
    (scores / "all_models_summary.json").write_text("{}")
    return scores
