"""The page as text: self-contained, safe, the same for the same inputs, and true to its results."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import xarray as xr

import analyses
import reports
import store
from reports._energy_maps import MAP_FRAMES, MAP_LAYERS, film
from reports._section import Context
from tests.planted import Planted
from tests.reports.conftest import HOSTILE, MADE, book


class Page(HTMLParser):
    """Tags with their attributes, and the text between them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.scripts: list[str] = []
        self._in = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._in = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        self._in = ""

    def handle_data(self, data):
        if self._in == "script":
            self.scripts[-1] += data
        elif self._in != "style":
            self.text += data

    def labels(self) -> list[str]:
        return [attrs["aria-label"] or "" for _, attrs in self.tags if "aria-label" in attrs]


def test_nothing_is_fetched(page):
    parsed = Page(page)
    links = [
        attrs[name]
        for _, attrs in parsed.tags
        for name in ("src", "href", "xlink:href", "action", "srcset")
        if name in attrs
    ]
    assert links
    assert all(link.startswith(("data:", "#")) for link in links)
    assert all(url.startswith(("data:", "#")) for url in re.findall(r"url\(['\"]?([^)]*)\)", page.split("<script>")[0]))
    assert "@import" not in page


def test_policy_forbids_the_network_and_foreign_scripts(page):
    parsed = Page(page)
    (policy,) = [attrs["content"] for tag, attrs in parsed.tags if tag == "meta" and attrs.get("http-equiv")]
    known = [f"'sha256-{base64.b64encode(hashlib.sha256(one.encode()).digest()).decode()}'" for one in parsed.scripts]
    assert len(known) == 2  # the page's own, and Vega
    assert "default-src 'none'" in policy
    assert f"script-src {' '.join(known)};" in policy
    assert not [attrs for _, attrs in parsed.tags if any(name.startswith("on") for name in attrs)]


def test_same_inputs_same_bytes(plain, page):
    again = reports.render(
        store.open(plain.acts.path),
        results=[analyses.load(plain.acts, result.id) for result in reversed(plain.results)],
        made=MADE,
    )
    assert again == page
    now = reports.render(plain.acts, results=plain.results)
    differing = [(a, b) for a, b in zip(page.splitlines(), now.splitlines(), strict=True) if a != b]
    assert len(differing) == 1
    assert "2026-01-02T03:04:05+00:00" in differing[0][0]


def test_findings_come_first_and_whole(plain, page):
    text = Page(page).text.replace("\N{NO-BREAK SPACE}", " ")
    first_section = text.index("At each denoising step")
    found = {result.record.analysis: text.index(result.finding) for result in plain.results}
    assert 0 < found["trajectory"] < found["energy"] < first_section
    assert all(result.verdict in text for result in plain.results)


def test_every_figure_says_n_and_interval_and_what_it_shows(page):
    figures = re.findall(r'<figure class="still">(.*?)</figure>', page, flags=re.DOTALL)
    assert len(figures) == 11
    for figure in figures:
        caption = re.search(r"<figcaption[^>]*>(.*?)</figcaption>", figure, flags=re.DOTALL).group(1)
        assert "n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}3 samples" in caption
        assert "Student t interval" in caption or "each alone, so no interval" in caption
        label = re.search(r'role="img" aria-label="([^"]*)"', figure).group(1)
        assert re.search(r"\d", label)
        assert "nan" not in label


def test_ids_are_unique_and_references_resolve(page):
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert {name for name in re.findall(r'(?:url\(#|href="#|for=")([^")]+)', page)} <= set(ids)


def test_drawn_numbers_are_those_of_the_result(plain, page):
    """The page shows what the result says, even where that is not what the store would give."""
    results = {result.record.analysis: result for result in plain.results}
    data = results["trajectory"].to_dataset().load().copy(deep=True)
    data["score_by_run"][:] = 0.4711
    changed = analyses.Result(record=results["trajectory"].record.replaced(finding="Altogether 4711."), data=data)
    drawn = reports.render(plain.acts, results=[changed])
    assert drawn.count("&#34;0.47&#34;") > 3
    assert "Altogether 4711." in drawn
    assert "&#34;0.47&#34;" not in page


def test_commitment_is_marked_at_its_step(page):
    assert page.count("right answer from step 3 on") == 4
    assert page.count("ends wrong (answer 0.00)") == 2
    curves = re.findall(r'<div class="curves".*?</div>', page, flags=re.DOTALL)
    assert sorted(re.findall(r'class="mark" style="--m:(\d+)"', curve) for curve in curves) == [[], [], *[["3"]] * 4]


def test_commitment_is_marked_on_bars_too(plain):
    page = reports.render(plain.acts, results=plain.results[-1:])
    strips = re.findall(r'<div class="strip".*?</div>', page, flags=re.DOTALL)
    marked = [[i for i, bar in enumerate(re.findall(r"<i[^>]*>", strip)) if "mark" in bar] for strip in strips]
    assert sorted(marked) == [[], [], [3], [3], [3], [3]]


def test_runs_of_a_sample_stand_together(page):
    groups = re.findall(r'<article class="group">(.*?)</article>', page, flags=re.DOTALL)
    seeds = [re.findall(r"<bdi>(seed \d)</bdi>", group) for group in groups]
    assert [of_sample for of_sample in seeds if of_sample] == [["seed 0", "seed 1"]] * 3


def test_hostile_texts_stay_text(hostile):
    page = hostile.page(title=HOSTILE)
    parsed = Page(page)
    assert len(parsed.scripts) == 2
    assert "hostile" not in "".join(parsed.scripts)
    assert HOSTILE in parsed.text
    assert not [attrs for tag, attrs in parsed.tags if attrs.get("src") == "x" or "onerror" in attrs]
    assert "49" not in re.findall(r"<title>(.*?)</title>", page, flags=re.DOTALL)[0]
    assert "<!--" not in page


def test_provenance_and_questions_are_at_the_foot(plain, page):
    text = Page(page).text
    run = plain.acts.run(plain.acts.run_ids()[0])
    for fact in (run.run.model.weight_hash, run.provenance.git_commit, "uncommitted", "planted device", "torch 2.9.0"):
        assert fact in text
    for run_id in plain.acts.run_ids():
        assert run_id in text
    for result in plain.results:
        assert result.id in text


@pytest.mark.parametrize(("question", "query"), reports.QUERIES)
def test_questions_have_answers(plain, question, query):
    assert question.endswith("?")
    assert '"' not in query
    rows = plain.acts.sql(query).fetchall()
    assert any(None not in row for row in rows)


def test_what_does_not_fit_is_left_out_and_told(plain, page):
    one = plain.page(media_bytes=40_000)
    assert "Not shown: " in one
    assert re.search(r"\d of 6 runs \(the page&#39;s limit", one)
    assert len(one) < len(page)
    none = plain.page(media_bytes=0)
    assert "larger than a page may be" in none
    assert 'class="screen' not in none


def test_loss_is_told(plain, page, monkeypatch):
    assert "lossless WebP" in page
    monkeypatch.setattr("reports._x0_viewer.LOSSLESS_BYTES", 0)
    assert "lossy WebP" in plain.page()


def test_chosen_runs_are_shown(plain):
    chosen = plain.acts.run_ids()[:2]
    page = plain.page(runs=chosen)
    assert len(re.findall(r"<bdi>seed \d</bdi>", page)) == 2


def test_without_pixels_the_page_says_how_to_have_them(tmp_path):
    few = book(Planted(samples=1, arrays=("resid_post/energy", "x0_hat/full"), scored=False), tmp_path / "acts")
    page = few.page()
    assert "No run kept x0_hat/pixels" in page
    text = Page(page).text
    assert "nan" not in text.lower().replace("finance", "")
    assert "n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}1 sample" in text
    assert "so no interval" in text


def test_flat_energy_shows_no_peak(tmp_path):
    flat = book(Planted(arrays=("resid_post/energy", "x0_hat/full"), scored=False), tmp_path / "acts")
    page = flat.page()
    assert "No peak by the rule" in page
    assert "peak, step" not in page


def test_a_result_that_nobody_draws_is_still_told(plain):
    record = plain.results[0].record.replaced(analysis="unheard_of", finding="Something else.", verdict="inconclusive")
    page = reports.render(plain.acts, results=[analyses.Result(record=record, data=plain.results[0].data)])
    assert "Something else." in page
    assert "verdict-inconclusive" in page


def test_large_maps_are_thinned_and_told(plain):
    shape = {"map_sample": 2, "map_step": 2, "layer": 60, "frame": 21, "y": 3, "x": 4}
    each = xr.DataArray(np.random.default_rng(0).random(tuple(shape.values())) + 1, dims=tuple(shape))
    attrs = {"n": 4, "interval": "an interval"}
    data = xr.Dataset({"maps": each.mean("map_sample").assign_attrs(attrs), "sample_maps": each}).assign_coords(
        map_sample=plain.acts.sample_ids()[:2], map_step=[0, 9], layer=range(60), frame=range(21), step=range(10)
    )
    made = film(
        data.assign_coords(sigma=("step", np.linspace(1, 0, 10))),
        Context(plain.acts, runs=None, media_bytes=10**6),
        "s",
    )
    assert len(made.axes[1].labels) == MAP_LAYERS
    assert [len(group.panes) for group in made.groups] == [MAP_FRAMES] * 3
    assert made.left_out == "Not shown: 8 of 10 steps, 36 of 60 layers, 12 of 21 frames, 2 of 4 samples."
    assert [sheet.rows for sheet in made.sheets] == [2 * MAP_LAYERS] * 3
    assert made.axes[1].values[-1] == 59


def test_nothing_to_report_is_an_error(plain):
    with pytest.raises(reports.NothingToReport, match="run an analysis first"):
        reports.render(plain.acts, results=[])


def test_file_appears_whole_or_not_at_all(plain, page, tmp_path, monkeypatch):
    out = reports.write(plain.acts, tmp_path / "deep" / "page.html", results=plain.results, made=MADE)
    assert out.read_text(encoding="utf-8") == page
    assert [path.name for path in out.parent.iterdir()] == ["page.html"]
    before = out.read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(
            "pathlib.Path.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device"))
        )
        with pytest.raises(reports.CannotWrite, match="No space left"):
            reports.write(plain.acts, out, results=plain.results[:1], media_bytes=0)
    assert out.read_bytes() == before
    assert [path.name for path in out.parent.iterdir()] == ["page.html"]


def test_a_folder_that_is_a_file_is_one_clear_line(plain, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(reports.CannotWrite, match="choose another file") as caught:
        reports.write(plain.acts, tmp_path / "file" / "page.html", results=plain.results[:1], media_bytes=0)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, OSError)
