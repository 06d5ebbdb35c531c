"""`stepscope models`: the table, the refusals, and what capturing a model would cost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import stepscope
from interp import catalogue


def run(*words: str) -> int:
    """Exit code of `stepscope models …`, run in this process."""
    try:
        stepscope.main(["models", *words])
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return 0


def test_ls_has_a_row_for_every_pipeline(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("ls", "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["pipeline"] for row in rows] == [row.pipeline for row in catalogue.traceable()]
    (vace,) = [row for row in rows if row["pipeline"] == "WanVACEPipeline"]
    assert (vace["family"], vace["guidance"]) == ("wan_vace", "named")
    assert "cross_attn_out" in vace["sites"]
    assert run("ls") == 0
    shown = capsys.readouterr().out
    assert all(row["pipeline"] in shown for row in rows)


def test_ls_says_what_is_refused_and_why(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("ls", "--refused", "--json") == 0
    rows = {row["pipeline"]: row["reason"] for row in json.loads(capsys.readouterr().out)}
    assert "U-Net" in rows["AnimateDiffPipeline"]
    assert "WanPipeline" not in rows
    assert run("ls", "--refused") == 0
    assert "AnimateDiffPipeline" in capsys.readouterr().out


def test_info_tells_bytes_by_site_and_reduction(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("info", "tinywan", "--steps", "3", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["settings"]["steps"] == 3
    assert told["time"]["seconds"] == pytest.approx(told["flops"] / told["time"]["flops"])
    assert told["time"]["dtype"] == "bfloat16"
    (full,) = [cost for cost in told["costs"] if (cost["site"], cost["reduction"]) == ("resid_post", "full")]
    tokens = told["tokens"][0] * told["tokens"][1] * told["tokens"][2]
    assert full["nbytes"] == tokens * told["width"] * told["layers"] * 3 * 2
    assert run("info", "tinywan", "--dtype", "float32") == 0
    shown = capsys.readouterr().out
    assert "tinywan: WanImageToVideoPipeline (wan)" in shown
    assert "cross_attn_out" in shown
    assert "time of a run: about" in shown
    assert "an estimate" in shown


def test_info_refuses_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for words, line in ((("tinywam",), "no model 'tinywam'"), (("tinywan", "--frames", "8"), "1 + a multiple of 4")):
        assert run("info", *words) == 2
        told = capsys.readouterr().err
        assert line in told
        assert told.count("\n") == 1


def test_the_readme_counts_what_there_is() -> None:
    rows = catalogue.traceable()
    counted = f"{len(rows)} video pipelines of diffusers in {len({row.family for row in rows})} families"
    root = Path(stepscope.__file__).parent
    assert counted in (root / "README.md").read_text()
    assert counted.replace(" in ", ", in ") in (root / "docs/reference/comparison.md").read_text()
