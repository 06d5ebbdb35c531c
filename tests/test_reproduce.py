"""`stepscope reproduce`: a very small plan on a tiny model from end to end, and what each part of it promises."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

import interp
import store
from interp import vbvr
from reports.reproduction import Row
from stepscope_commands.reproducing import claims, making, page, programme, record, telling
from stepscope_commands.reproducing import plan as plans
from stepscope_commands.reproducing.claims import ALL, CLAIMS, Number
from store import CaptureItem, CaptureSpec
from tests import tiny
from tests.a14b import configuration
from tests.test_cli import refused, run

PLAN = """
about = "For a test."
[settings]
steps = 4
[[bed]]
name = "single"
families = ["maze"]
n = 2
difficulty = "easy"
keep = ["resid_post/energy@layers=~2"]
[[bed]]
name = "several"
families = ["rotation"]
n = 1
difficulty = "medium"
keep = ["x0_hat/pixels@steps=~2"]
[[experiment]]
of = "propagation"
on = ["single"]
n = 1
options = { at = [0, 2], layers = "~1" }
[[experiment]]
of = "noise"
on = ["single"]
options = { at = [0, 2], frames = [1], draws = 1, doses = [] }
[[analysis]]
of = "exploration"
on = ["several"]
[[analysis]]
of = "working_memory"
on = ["single"]
"""
SIZE = ["--height", "96", "--width", "96", "--frames", "17"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plan, a tiny model, and below `out` what came of them."""
    path = tmp_path_factory.mktemp("reproduce")
    (path / "plan.toml").write_text(PLAN)
    tiny.pipeline().save_pretrained(path / "model")
    assert run(*_words(path)) == 0
    return path


def _words(path: Path, *more: str | Path) -> list[str | Path]:
    words = ["reproduce", "--plan", path / "plan.toml", "--model", path / "model", "--out", path / "out", *SIZE]
    return [*words, "--no-floors", "--batch", "4", *more]


def _rows(path: Path) -> dict[str, Any]:
    return {row["id"]: row for row in json.loads((path / "out" / "results.json").read_text())["rows"]}


def test_every_claim_has_its_row_and_every_result_its_evidence(folder: Path) -> None:
    rows = _rows(folder)
    assert list(rows) == [claim.id for claim in CLAIMS]
    tested = {id for id, row in rows.items() if row["verdict"] != "not tested"}
    assert tested == {"E1", "E2", "E3", "E4", "E5"}
    assert rows["E7"]["finding"] == "this part was not run"
    assert "10 are needed" in rows["E11a"]["finding"]  # an analysis says why it cannot be computed
    page = (folder / "out" / "index.html").read_text()
    for id, row in rows.items():
        assert f'<tr id="{id}">' in page
        for _, address in row["evidence"]:
            file, _, anchor = address.partition("#")
            assert f'href="{address}"' in page
            assert not anchor or f'id="{anchor}"' in (folder / "out" / file).read_text()
    assert rows["E5"]["evidence"][0][1].endswith("-propagation")
    assert "This model does not solve the tasks of these beds" in page
    assert "://" not in re.sub(r'href="https://arxiv.org[^"]*"', "", page)
    for claim in CLAIMS:
        assert claim.paper in (folder / "out" / "index.md").read_text()


def test_experiments_share_their_runs(folder: Path) -> None:
    """Noise at steps is the same in both; in the sample that both have, it is made once and keeps what one needs."""
    made = record.read(folder / "out")
    assert made is not None
    noise, propagation = (set(made.runs[name]) for name in ("noise", "propagation"))
    # Of one sample: clean, plain at 0 and 2, matched at 2. Of two: these and frame 1, early, to the end and matched.
    assert (len(propagation), len(noise), len(noise & propagation)) == (4, 14, 4)
    assert len(store.open(folder / "out" / "acts").run_ids()) == 14 + 1


def test_what_is_there_is_not_made_again(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (folder / "out" / "runs.json").read_text()
    capsys.readouterr()
    assert run(*_words(folder, "--only", "E3")) == 0
    assert re.search(r"all +│ 0 +│ 0 ", capsys.readouterr().out)
    assert json.loads((folder / "out" / "runs.json").read_text())["runs"] == json.loads(before)["runs"]
    assert _rows(folder)["E5"]["verdict"] != "not tested"  # of the call before


def test_runs_are_made_without_duckdb_and_told_elsewhere(folder: Path) -> None:
    """As on a GPU node: another folder, the same store."""
    words = [
        str(word) for word in _words(folder, "--only", "E3", "--captures-only", "--store", folder / "out" / "acts")
    ]
    words[words.index("--out") + 1] = str(folder / "there")
    code = f"import sys; sys.modules['duckdb'] = None; import stepscope; stepscope.main({words!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--results-only" in done.stdout
    there = ["--out", folder / "there", "--store", folder / "out" / "acts", "--no-floors"]
    assert run("reproduce", "--results-only", *there, "--where", "family = 'maze'") == 0
    rows = json.loads((folder / "there" / "results.json").read_text())["rows"]
    assert [row["id"] for row in rows if row["verdict"] != "not tested"] == ["E3", "E4"]


def test_pages_of_parts_made_apart_are_joined(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As of several processes: the claims, evidence, beds and runs of all, and one model or none."""
    at = ["--store", folder / "out" / "acts"]
    for name, only in (("one", "E3"), ("two", "E5")):
        words = _words(folder, "--only", only, *at)
        words[words.index("--out") + 1] = folder / name
        assert run(*words) == 0
    joining: list[str | Path] = [
        "reproduce",
        "--join",
        folder / "one",
        "--join",
        folder / "two",
        "--out",
        folder / "joined",
    ]
    assert run(*joining) == 0
    pages = [page.read(folder / name) for name in ("one", "two", "joined")]
    rows = [{row["id"]: row for row in one.rows} for one in pages]
    assert [id for id, row in rows[2].items() if row["verdict"] != "not tested"] == ["E3", "E4", "E5"]
    assert (rows[2]["E3"], rows[2]["E5"]) == (rows[0]["E3"], rows[1]["E5"])
    assert list(rows[2]) == [claim.id for claim in CLAIMS]
    for row in rows[2].values():
        for _, address in row["evidence"]:
            assert (folder / "joined" / address.partition("#")[0]).exists()
    assert pages[2].runs == pages[0].runs + pages[1].runs
    assert "of 2 processes together" in (folder / "joined" / "index.html").read_text()
    (bed,) = pages[2].beds
    assert bed.users == ("noise", "propagation")

    other = pages[1].model_copy(update={"facts": {**pages[1].facts, "Weights (SHA-256)": "0" * 64}})
    (folder / "two" / page.FILE).write_text(other.model_dump_json())
    for words, told in ((joining, "Weights"), ([*joining[:-1], folder / "one"], "into itself")):
        capsys.readouterr()
        assert run(*words) == 2
        error = capsys.readouterr().err
        assert told in error
        assert error.count("\n") == 1
    assert run("reproduce", "--join", folder / "nowhere", "--out", folder / "joined") == 2
    assert "has no results.json" in capsys.readouterr().err


def test_samples_of_a_folder_stand_in_for_the_worlds(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Samples of two worlds in the benchmark's layout, which brings no truth that a scorer of ours could use."""
    questions = [one for name in ("grounding", "maze") for one in interp.worlds[name].generate(2, seed=3)]
    vbvr.export(tmp_path / "bench", samples=questions)
    twins = '[[bed]]\nname = "twins"\nfamilies = ["grounding"]\nn = 1\ntwins = true\n'
    swap = '[[experiment]]\nof = "swap"\non = ["twins"]\n'
    plan = PLAN.replace("[[experiment]]", twins + "[[experiment]]", 1).replace("[[analysis]]", swap + "[[analysis]]", 1)
    (tmp_path / "plan.toml").write_text(
        plan.replace("at = [0, 2], frames = [1], draws = 1", "at = [0], frames = [], draws = 0")
    )
    words = [
        "reproduce",
        "--plan",
        tmp_path / "plan.toml",
        "--model",
        folder / "model",
        "--out",
        tmp_path / "out",
        *SIZE,
    ]
    words += ["--samples", tmp_path / "bench" / "gt", "--batch", "4"]
    assert "no twins" in refused(capsys, *words, "--only", "E7")
    assert run(*words, "--only", "E3") == 0
    made = record.read(tmp_path / "out")
    assert made is not None
    acts = store.open(tmp_path / "out" / "acts")
    clean = [id for id in made.runs["noise"] if acts.run(id).run.parent_id is None]
    asked = [acts.sample(acts.run(id).run.sample_id) for id in clean]
    assert sorted(one.record.family for one in asked) == ["grounding", "maze"]  # two samples, tasks in turn
    given = {one.first_frame.tobytes() for one in questions}
    assert given.issuperset(one.first_frame.tobytes() for one in asked)
    rows = _rows(tmp_path)
    assert rows["E7"]["finding"] == "this part was not run"
    assert (rows["E3"]["verdict"], rows["E3"]["n"]) == ("inconclusive", 2)
    assert "Nothing scored these videos" in rows["E3"]["finding"]
    page = (tmp_path / "out" / "index.md").read_text()
    assert "gt | 2 samples or all" in page
    assert "what solves nothing" not in page  # floors are those of worlds
    assert "rotation" not in page


PAIRS = """
about = "For a test."
[settings]
steps = 2
[[bed]]
name = "pairs"
families = ["grounding"]
n = 1
twins = true
[[experiment]]
of = "attribution"
on = ["pairs"]
options = { sites = ["resid_post"], parts = ["whole", "target"], layer_blocks = 2, windows = [[0, 0]] }
[[experiment]]
of = "patch"
on = ["pairs"]
options = { sites = ["resid_post"], parts = ["whole"], layer_blocks = 2, windows = [[0, 0]] }
"""


def test_gradients_are_taken_between_the_clean_runs_of_pairs(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both ways, beside the patches that they foretell; what two experiments patch is made once."""
    (tmp_path / "plan.toml").write_text(PAIRS)
    words = ["reproduce", "--plan", tmp_path / "plan.toml", "--model", folder / "model", *SIZE]
    place = ["--out", tmp_path / "out", "--batch", "4", "--no-floors"]
    assert "--executor local" in refused(capsys, *words, *place, "--only", "B9", "--executor", "dask:tcp://127.0.0.1:9")
    assert run(*words, *place) == 0
    # attribution: 2 steps with a gradient, of about three forwards; 2 clean runs and 2 x 4 patched ones of 2 steps
    line = re.search(r"attribution +│ +(\d+) +│ +(\d+) +│ +(\d+)", capsys.readouterr().out)
    assert line is not None
    acts = store.open(tmp_path / "out" / "acts")
    assert int(line[1]) == len(acts.run_ids()) == 2 + 2 * 4
    assert int(line[2]) == 2 * (2 + 2 * 4) + 2
    assert len(acts.results("analysis = 'attribution_tokens'")) == 2
    rows = _rows(tmp_path)
    assert rows["B9"]["finding"].startswith("None of 8 exchanges can be read")  # four arms each way; nothing is solved
    assert rows["B2"]["finding"].startswith("None of 4 exchanges")
    assert run(*words, *place, "--only", "B9") == 0
    assert re.search(r"all +│ 0 +│ 0 ", capsys.readouterr().out)


def test_a_disk_that_is_too_small_is_refused_before_anything_runs(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each sweep would fit by itself.
    monkeypatch.setattr(store.ActivationStore, "free", property(lambda self: 6_000_000))
    said = refused(capsys, *_words(folder, "--store", tmp_path / "acts"))
    assert "the reproduction would write" in said
    assert "--only" in said
    assert store.open(tmp_path / "acts").run_ids() == []


def test_a_cost_from_two_samples_is_that_of_all(folder: Path, tmp_path: Path) -> None:
    text = PLAN.replace("n = 2", "n = 6").replace("n = 1\noptions", "n = 4\noptions")
    (tmp_path / "plan.toml").write_text(text)
    asked = plans.read(tmp_path / "plan.toml")
    model = making.sketched(str(folder / "model"), dtype=torch.float32)
    acts = store.open(tmp_path / "acts", mode="a")
    found: list[list[making.Cost]] = []
    for most in (None, 2):
        samples = {bed.name: plans.drawn(bed, most=most and most + 1) for bed in asked.bed}
        work = programme.Work(model, asked, samples, asked={"height": 96, "width": 96, "frames": 17})
        found.append(making.costs(work, acts, {}, most=most))
    for exact, sketched in zip(*found, strict=True):
        assert exact.part == sketched.part
        assert exact[1:] == pytest.approx(sketched[1:], rel=0.01)
    assert sum(row.runs for row in found[0]) == 6 * 7 + 1


def test_full_size_is_told_in_gpu_hours_and_gigabytes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From the configuration alone, at the speed that was measured on it."""
    model = configuration(tmp_path / "a14b")
    words = ["--model", model, "--plan", plans.SHIPPED / "quick.toml", "--cost", "--tflops", "577", "--student", "none"]
    assert run("reproduce", *words, "--dtype", "bfloat16", "--only", "E3", "--steps", "50", "--guidance", "3.5") == 0
    said = capsys.readouterr().out
    assert "40 layers × 5120 channels, 28.6 B parameters" in said
    hours = re.search(r"([\d.,]+) GPU hours", said)
    forwards = re.search(r"all .*?│.*?│.*?│ ([\d,]+) ", said)
    assert hours is not None
    assert forwards is not None
    seconds = 3600 * float(hours[1].replace(",", "")) / float(forwards[1].replace(",", ""))
    assert seconds == pytest.approx(3.13, rel=0.02)  # seconds a forward, measured on an H200
    assert "GB" in said
    # Whatever it weighs, it is told and not refused: donors' states in two branches of five layers and all steps.
    all_of_it = [
        "reproduce",
        "--model",
        model,
        "--full",
        "--cost",
        "--tflops",
        "577",
        "--student",
        "none",
        "--only",
        "E7",
    ]
    tons: list[float] = []
    for keep in ("--keep", "--no-keep"):
        assert run(*all_of_it, "--dtype", "bfloat16", keep) == 0
        found = re.search(r"([\d,.]+) GB; at", capsys.readouterr().out)
        assert found is not None
        tons.append(float(found[1].replace(",", "")))
    assert tons[0] > 10_000 > tons[1] > 0


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (('on = ["several"]', 'on = ["nowhere"]'), "nowhere"),
        (("n = 1\noptions", "n = 3\noptions"), "asks for 3 of the 2 samples"),
        (('of = "noise"', 'of = "propagation"'), "is there twice"),
        (("about", "abuot"), "bad plan"),
    ],
)
def test_a_bad_plan_is_refused_in_one_line(
    change: tuple[str, str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert change[0] in PLAN
    (tmp_path / "plan.toml").write_text(PLAN.replace(*change))
    assert says in refused(capsys, "reproduce", "--plan", tmp_path / "plan.toml", "--cost")


def test_what_is_asked_wrongly_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "E1 to E11" in refused(capsys, "reproduce", "--only", "E12", "--cost")
    assert "one of them" in refused(capsys, "reproduce", "--quick", "--full")
    assert "make them first" in refused(capsys, "reproduce", "--results-only", "--out", tmp_path)


@pytest.mark.parametrize("name", ["quick", "full"])
def test_plans_that_ship_test_every_claim(name: str) -> None:
    asked = plans.read(name)
    assert {claim.test for claim in CLAIMS} <= {part.id for part in asked.parts}
    for part in asked.parts:  # a bed without a part would be made for nothing
        assert part.id in claims.parts(ALL)
    if name == "full":
        assert claims.parts(ALL) == {part.id for part in asked.parts}


def test_quick_has_the_samples_that_every_verdict_needs() -> None:
    """Fewer make it inconclusive, whatever comes out."""
    asked = plans.read("quick")
    units = {
        part.id: sum(len(bed.families) * (part.n or bed.n) for bed in map(asked.of, part.on)) for part in asked.parts
    }
    experiments = {"noise": "_paired", "propagation": "_paired", "swap": "_paired", "ensemble": "_gain"}
    experiments |= {"frames": "frames", "steps": "steps"}
    fewest = {id: import_module(f"analyses.experiments.{name}").FEWEST for id, name in experiments.items()}
    analyses = {"exploration": "exploration", "self_correction": "self_correction", "energy": "_energy_parts"}
    analyses |= {"perception_first": "perception_first"}
    fewest |= {id: import_module(f"analyses.{name}").MIN_SAMPLES for id, name in analyses.items()}
    assert {claim.test for claim in CLAIMS} == {*fewest, "working_memory"}
    assert {name: (units[name], least) for name, least in fewest.items() if units[name] < least} == {}
    assert units["working_memory"] > 2 * 5  # each of two looks in each of five folds
    assert asked.settings["steps"] >= import_module("analyses.perception_first").MIN_STEPS


def test_a_plan_says_how_many_runs_go_together(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def seen(*_: Any, batch: int, **__: Any) -> None:
        raise interp.BadInput(f"batches of {batch}")

    monkeypatch.setattr(making, "make", seen)
    (tmp_path / "plan.toml").write_text("batch = 3\n" + PLAN)
    words = ["reproduce", "--plan", tmp_path / "plan.toml", "--model", folder / "model", "--out", tmp_path, *SIZE]
    assert refused(capsys, *words).endswith("batches of 3")
    assert refused(capsys, *words, "--batch", "2").endswith("batches of 2")


def test_words_follow_from_verdicts() -> None:
    def row(id: str, verdict: str) -> Row:
        return Row(id, f"claim {id}", "", "", (), 9, verdict, "why", "", (), "size")

    rows = [
        row("E1", "replicates"),
        row("E2", "does not replicate"),
        row("E3", "inconclusive"),
        row("E4", "not tested"),
    ]
    made = record.Made(plan=plans.read("quick"), model="m", parameters=10**7, shape={}, runs={})
    yes, no, left, larger = page.words(rows, made.model, made.parameters)
    assert (yes.sentences, no.sentences) == (("claim E1 (E1).",), ("claim E2 (E2).",))
    assert left.sentences == ("claim E3 (E3): n = 9, inconclusive.", "claim E4 (E4): why.")
    assert larger.sentences == tuple(f"E{at}: size." for at in range(1, 5))
    assert page.words(rows, "m", 14 * 10**9)[3].sentences == ()


def test_numbers_are_told_with_their_intervals() -> None:
    summary = {"gain": -0.0312, "gain_low": -0.1, "gain_high": 0.02, "at": 3, "a": {"score_there": 0.5}, "none": None}
    assert telling.told(Number("", "gain", 3), summary) == "−0.031 (−0.100 to 0.020)"
    assert telling.told(Number("", "at", 0), summary) == "3"
    assert telling.told(Number("", "a.score{}_there", 0, True), summary) == "50 %"
    shared = {"right": 10 / 12, "right_low": 0.55, "right_high": 0.95}
    assert telling.told(Number("", "right", 0, True), shared) == "83 % (55 % to 95 %)"
    assert telling.told(Number("", "none"), summary) == telling.told(Number("", "missing"), summary) == ""


def test_specs_are_merged_into_what_any_keeps() -> None:
    first = CaptureItem(site="resid_post", reduction="project", layers=(1, 3), branches=("cond",))
    second = CaptureItem(site="resid_post", reduction="project", layers=(2,), steps=(0,))
    (item,) = programme.merged([CaptureSpec(items=(first,)), CaptureSpec(items=(second,))]).items
    assert (item.layers, item.steps, item.branches) == ((1, 2, 3), None, ("cond",))
    assert programme.merged([CaptureSpec(items=(first,))] * 2).items == (first,)
