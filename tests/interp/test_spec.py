"""How a capture spec is written, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

import interp
from store import CaptureItem, CaptureSpec


def test_an_item_names_site_reduction_and_cells() -> None:
    spec = interp.parse(["resid_post/full@layers=4-6,2@steps=0@branches=cond,uncond", "x0_hat/pixels"])
    full, pixels = spec.items
    assert full == CaptureItem(
        site="resid_post", reduction="full", layers=(2, 4, 5, 6), steps=(0,), branches=("cond", "uncond")
    )
    assert pixels == CaptureItem(site="x0_hat", reduction="pixels")


def test_an_item_can_be_lossy() -> None:
    (item,) = interp.parse(["resid_post/full@int8@steps=0"]).items
    assert item == CaptureItem(site="resid_post", reduction="full", steps=(0,), encoding="int8")
    assert interp.parse(["resid_post/full@exact"]) == interp.parse(["resid_post/full"])


def test_order_does_not_change_a_spec() -> None:
    texts = ["x0_hat/full", "resid_post/energy@layers=3,1"]
    assert interp.parse(texts) == interp.parse(reversed(["x0_hat/full", "resid_post/energy@layers=1,3"]))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("resid_post", "write SITE/REDUCTION"),
        ("/energy", "write SITE/REDUCTION"),
        ("resid_post/energy@layer=3", "layer=3"),
        ("resid_post/energy@layers=a", "'a'"),
        ("resid_post/energy@layers=5-2", "5-2"),
        ("resid_post/energy@layers=-1", "-1"),
        ("resid_post/full@int4", "int4"),
    ],
)
def test_what_cannot_be_read_is_quoted(text: str, complaint: str) -> None:
    with pytest.raises(interp.BadSpec, match=complaint):
        interp.parse([text])


def test_an_array_is_named_once() -> None:
    with pytest.raises(interp.BadSpec, match="resid_post/energy"):
        interp.parse(["resid_post/energy@layers=1", "resid_post/energy@layers=2"])


def test_a_toml_file_says_the_same(tmp_path: Path) -> None:
    file = tmp_path / "spec.toml"
    file.write_text('[[capture]]\nsite = "resid_post"\nreduction = "full"\nlayers = [6, 4, 5]\nsteps = [0]\n')
    assert interp.read(file) == interp.parse(["resid_post/full@layers=4-6@steps=0"])


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "no \\[\\[capture\\]\\] table"),
        ("capture = 3", "no \\[\\[capture\\]\\] table"),
        ("[[capture]\n", "cannot read"),
        ('[[capture]]\nsite = "resid_post"\n', "reduction"),
        ('[[capture]]\nsite = "a"\nreduction = "b"\nlayer = 3\n', "layer"),
        ('[[capture]]\nsite = "a"\nreduction = "b"\nsteps = [-1]\n', "negative"),
    ],
)
def test_a_bad_toml_file_is_refused_in_one_line(tmp_path: Path, content: str, complaint: str) -> None:
    file = tmp_path / "spec.toml"
    file.write_text(content)
    with pytest.raises(interp.BadSpec, match=complaint) as caught:
        interp.read(file)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(interp.BadSpec, match=r"nowhere\.toml"):
        interp.read(tmp_path / "nowhere.toml")


def test_the_default_spec_is_what_the_documents_say() -> None:
    kept = [f"{item.site}/{item.reduction}" for item in interp.DEFAULT.items]
    assert kept == ["resid_post/channel_stats", "resid_post/energy", "resid_post/project", "x0_hat/full"]
    assert all((item.layers, item.steps, item.branches) == (None, None, None) for item in interp.DEFAULT.items)


def test_the_default_spec_keeps_no_pixels_and_the_demos_does() -> None:
    assert isinstance(interp.DEFAULT, CaptureSpec)
    extra = set(interp.WITH_PIXELS.items) - set(interp.DEFAULT.items)
    assert [f"{item.site}/{item.reduction}" for item in extra] == ["x0_hat/pixels"]
