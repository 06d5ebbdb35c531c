"""Scores of the evaluation kit end with the runs that made the videos, floors beside, and say nothing twice."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest

import store
from interp import vbvr
from interp.errors import BadInput
from tests import planted_vbvr as planted


@pytest.fixture
def acts(tmp_path: Path) -> store.ActivationStore:
    """Two seeds of each of four samples, exported; seed 0 ends right, seed 1 as it began."""
    folder = planted.benchmark(tmp_path / "bench")
    acts = store.open(tmp_path / "acts", mode="a")
    for sample in vbvr.samples(folder):
        planted.run(acts, sample, planted.film(), seed=0)
        planted.run(acts, sample, planted.film(end=planted.RED), seed=1)
    vbvr.export(tmp_path / "out", acts=acts, benchmark=folder)
    return acts


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def model(out: Path, seed: int) -> str:
    """Folder of the runs of a seed."""
    (found,) = [path.name for path in (out / "videos").iterdir() if path.name.startswith(f"small-seed{seed}-")]
    return found


@pytest.mark.parametrize("old", [False, True])
def test_scores_are_joined_to_their_runs(acts: store.ActivationStore, out: Path, old: bool) -> None:
    planted.kit(out, old=old)
    found = vbvr.bring(acts, out)
    assert (found.new, found.known, found.failed, found.unnamed, found.strangers) == (8, 0, (), 0, 0)
    rows = acts.sql(
        "SELECT seed, metric, min(value), max(value), count(*) FROM scores JOIN runs USING (run_id) "
        "WHERE scorer = 'vbvr' AND result_id = ? GROUP BY ALL ORDER BY ALL",
        [found.result_id],
    ).fetchall()
    for seed, right in ((0, 1.0), (1, 0.0)):
        by_metric = {metric: values for there, metric, *values in rows if there == seed}
        assert by_metric["score"] == by_metric["task_specific"] == [right, right, 4]
        assert by_metric["truth"] == by_metric["jump"] == [1.0, 1.0, 4]
        assert by_metric["still"] == [0.0, 0.0, 4]
        assert 0 <= by_metric["noise"][0] <= by_metric["noise"][1] < 0.2
        assert by_metric.keys() == {"score", "task_specific", "still", "noise", "jump", "truth"}
    first, second = found.rows
    assert (first.model, second.model) == (model(out, 0), model(out, 1))
    assert (first.score.mean, second.score.mean, first.score.n) == (1.0, 0.0, 4)
    assert first.above.mean == pytest.approx(1 - first.noise.mean)
    assert first.above.low <= first.above.mean <= first.above.high <= 1
    entry = acts.result(found.result_id)
    assert (entry.record.analysis, entry.record.n, entry.record.verdict) == ("vbvr", 4, "descriptive")
    assert "n = 4 samples; still 0.000" in entry.record.finding
    assert float(entry.data["value"].sel(metric="score").mean()) == 0.5
    assert store.open(acts.path).sql("SELECT count(*) FROM scores WHERE scorer = 'vbvr'").fetchall() == [(48,)]


def test_runs_keep_their_own_scores_apart(acts: store.ActivationStore, out: Path) -> None:
    """No metric of the kit has the name of one that experiments read."""
    changed = {f"{model(out, 0)}/00000": {"dimensions": {"answer": 1, "overall": 1.0, "task_specific": 0.5}}}
    planted.kit(out, changed=changed)
    vbvr.bring(acts, out)
    metrics = {row[0] for row in acts.sql("SELECT DISTINCT metric FROM scores").fetchall()}
    assert metrics == {"score", "task_specific", "still", "noise", "jump", "truth"}


def test_bringing_them_again_changes_nothing(acts: store.ActivationStore, out: Path) -> None:
    planted.kit(out)
    vbvr.bring(acts, out)
    again = vbvr.bring(acts, out)
    assert (again.result_id, again.new, again.known) == (None, 0, 8)
    assert acts.sql("SELECT count(*) FROM scores").fetchall() == [(48,)]
    assert len(acts.result_ids()) == 1


def test_videos_that_are_scored_later_are_added(acts: store.ActivationStore, out: Path) -> None:
    scores = planted.kit(out)
    late = scores / f"{model(out, 1)}_vbvr_results.json"
    kept = late.read_bytes()
    late.unlink()
    first = vbvr.bring(acts, out)
    assert (first.new, first.unnamed, [row.model for row in first.rows]) == (4, 4, [model(out, 0)])
    late.write_bytes(kept)
    second = vbvr.bring(acts, out)
    assert (second.new, second.known, len(second.rows)) == (4, 4, 2)
    assert acts.sql("SELECT count(*), count(DISTINCT result_id) FROM scores").fetchall() == [(48, 2)]


def test_scores_do_not_change_but_may_have_another_name(acts: store.ActivationStore, out: Path) -> None:
    planted.kit(out)
    vbvr.bring(acts, out)
    planted.kit(out, changed={f"{model(out, 0)}/00000": {"score": 0.5}})
    with pytest.raises(BadInput, match=r"has score 1 from vbvr already, and these files say 0\.5.*--scorer"):
        vbvr.bring(acts, out)
    assert vbvr.bring(acts, out, scorer="vbvr-275472f").new == 8
    with pytest.raises(BadInput, match="is no name"):
        vbvr.bring(acts, out, scorer="a'; DROP")


def test_what_the_kit_failed_on_has_no_score(acts: store.ActivationStore, out: Path) -> None:
    """Its 0.0 would pass for a wrong answer; a floor without a score leaves its cells empty."""
    failing = {"score": 0.0, "error": "Cannot open video"}
    planted.kit(out, changed={f"{model(out, 0)}/00000": failing, "floor-still/00001": failing})
    found = vbvr.bring(acts, out)
    assert found.new == 6
    assert sorted(found.failed)[-1].endswith("00000: Cannot open video")
    assert len(found.failed) == 4
    assert (found.rows[0].score.mean, found.rows[0].score.n, found.rows[0].still.n, found.rows[0].above.n) == (
        1,
        2,
        0,
        0,
    )
    assert math.isnan(found.rows[0].above.mean)
    assert found.rows[1].above.n == 2


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "cannot read"),
        ("[]", "cannot read"),
        ("{}", "neither samples nor detailed"),
        ("[" * 100_000, "cannot read"),
        ('{"samples": [{"video_path": "a", "score": 1.5}]}', "samples.0.score"),
        ('{"samples": [{"video_path": "a", "score": NaN}]}', "samples.0.score"),
        ('{"samples": [{"video_path": "a", "score": "high"}]}', "samples.0.score"),
        ('{"samples": [{"score": 1}]}', "samples.0.video_path"),
        ('{"samples": [{"video_path": "../../x.mp4", "score": 1}]}', "has no video of the export"),
        ('{"samples": []}', "has no video of the export"),
    ],
)
def test_hostile_results_are_refused(acts: store.ActivationStore, out: Path, content: str, complaint: str) -> None:
    (out / "scores").mkdir()
    path = out / "scores" / "x_vbvr_results.json"
    path.write_text(content)
    with pytest.raises(BadInput) as caught:
        vbvr.bring(acts, out)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)
    assert acts.result_ids() == []


def test_results_of_another_export_are_left_out(acts: store.ActivationStore, out: Path, tmp_path: Path) -> None:
    scores = planted.kit(out)
    entries = [{"video_path": "C:\\videos\\other\\In-Domain_50\\G-3\\00000.mp4", "score": 0.9}]
    (scores / "other_vbvr_results.json").write_text(json.dumps({"samples": entries}))
    assert vbvr.bring(acts, out).strangers == 1
    empty = store.open(tmp_path / "empty", mode="a")
    with pytest.raises(BadInput, match="lacks 8 of the 8 runs"):
        vbvr.bring(empty, out)


def test_two_files_that_contradict_each_other_are_refused(acts: store.ActivationStore, out: Path) -> None:
    planted.kit(out)
    planted.kit(out, old=True, changed={f"{model(out, 1)}/00001": {"score": 0.75}})
    with pytest.raises(BadInput, match=r"differ in the score of .*--results"):
        vbvr.bring(acts, out)
    assert vbvr.bring(acts, out, results=sorted((out / "scores").glob("*_vbvr_*"))).new == 8


def test_the_queries_of_the_docs_answer(acts: store.ActivationStore, out: Path) -> None:
    planted.kit(out)
    vbvr.bring(acts, out)
    page = (Path(__file__).resolve().parents[2] / "docs" / "vbvr.md").read_text()
    (block,) = re.findall(r"^```sql\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    beyond, costs = (query for query in block.split(";") if query.strip())
    rows = acts.sql(beyond).fetchall()
    assert [row[2:4] + row[5:] for row in rows] == [(4, 0.5, 1.0)] * 2
    assert all(0.3 < row[4] <= 0.5 for row in rows)
    assert acts.sql(costs).fetchall() == []
    clean = acts.run(acts.run_ids("seed = 0")[0]).run
    sample = acts.sample(clean.sample_id)
    changed = planted.run(acts, sample, planted.film(end=planted.RED), seed=0, parent_id=clean.id)
    vbvr.export(out, acts=acts)
    planted.kit(out)
    vbvr.bring(acts, out)
    assert acts.run(changed).run.parent_id == clean.id
    assert [row[1:] for row in acts.sql(costs).fetchall()] == [(1, 1.0)]


def test_an_export_without_scores_says_what_to_do(acts: store.ActivationStore, out: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="run it first"):
        vbvr.bring(acts, out)
    with pytest.raises(BadInput, match="is no export"):
        vbvr.bring(acts, tmp_path)
