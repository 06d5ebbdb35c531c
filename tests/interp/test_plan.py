"""What a spec means for a model, before anything runs."""

from __future__ import annotations

import math

import pytest

import interp
from store import CaptureSpec
from tests import tiny


@pytest.fixture(scope="module")
def model() -> interp.Model:
    return interp.load(tiny.pipeline(layers=12))


def planned(model: interp.Model, *texts: str, **asked: float) -> interp.Plan:
    return interp.plan(model.adapter, interp.parse(texts), model.settings(**tiny.SIZE, **{"steps": 4, **asked}))


def test_sizes_follow_from_the_model(model: interp.Model) -> None:
    plan = planned(model, "resid_post/energy", "resid_post/full@layers=2,5@steps=1-3", "x0_hat/pixels", "velocity/full")
    by_name = {f"{array.site.name}/{array.reduction.name}": array for array in plan.arrays}
    assert by_name["resid_post/energy"].shape == (4, 1, 12, 3, 4, 6)
    assert by_name["resid_post/energy"].dims == ("step", "branch", "layer", "frame", "y", "x")
    assert by_name["resid_post/full"].shape == (3, 1, 2, 3, 4, 6, tiny.WIDTH)
    assert by_name["x0_hat/pixels"].shape == (4, 9, 32, 48, 3)
    assert by_name["velocity/full"].shape == (4, 1, 3, 4, 6, tiny.LATENT)
    assert by_name["velocity/full"].branches == ("guided",)
    values = sum(math.prod(array.shape) * array.dtype.itemsize for array in plan.arrays)
    assert plan.nbytes == values + 9 * 32 * 48 * 3


def test_a_lossy_array_is_a_quarter_and_its_scales(model: interp.Model) -> None:
    exact, lossy = (planned(model, f"resid_post/full{end}").arrays[0] for end in ("", "@int8"))
    values = math.prod(exact.shape)
    assert (exact.encoding, lossy.encoding) == ("exact", "int8")
    assert (exact.nbytes, lossy.nbytes) == (4 * values, values + 4 * values // 24)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("resid_post/energy@layers=99", "layer 99, but there are 12: 0 to 11"),
        ("resid_post/energy@steps=4", "step 4, but there are 4: 0 to 3"),
        ("resid_post/energy@branches=guided", "no branch 'guided'; there are: cond, uncond"),
        ("resid_post/pixels", "only latent videos can be decoded"),
        ("x0_hat/full@layers=0", "has no layers"),
        ("x0_hat/pixels@int8", "cannot be kept as int8, which is for floats"),
        ("resid_post/frame_mean@float8", "cannot be kept as float8"),
    ],
)
def test_what_the_model_does_not_have_is_refused(model: interp.Model, text: str, complaint: str) -> None:
    with pytest.raises(interp.BadSpec, match=complaint):
        planned(model, text)


@pytest.mark.parametrize("text", ["attention/energy", "resid_post/entropy"])
def test_unknown_names_list_what_there_is(model: interp.Model, text: str) -> None:
    with pytest.raises(interp.UnknownName, match=r"energy|resid_post"):
        planned(model, text)


def test_uncond_needs_guidance(model: interp.Model) -> None:
    with pytest.raises(interp.BadSpec, match="without guidance"):
        planned(model, "resid_post/energy@branches=uncond", guidance=1.0)


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        ({"height": 40}, "height 40 does not fit: this model needs a multiple of 16"),
        ({"frames": 10}, "10 frames do not fit.*for example 9 or 13"),
        ({"guidance_2": 2.0}, "one denoiser"),
        ({"steps": 0}, "steps: Input should be greater than 0"),
        ({"stepz": 3}, "stepz"),
    ],
)
def test_what_the_pipeline_cannot_run_is_refused(model: interp.Model, asked: dict[str, float], complaint: str) -> None:
    with pytest.raises(interp.BadInput, match=complaint):
        model.settings(**{**tiny.SIZE, **asked})


def test_an_empty_spec_keeps_the_finished_video_only(model: interp.Model) -> None:
    plan = interp.plan(model.adapter, CaptureSpec(items=()), model.settings(**tiny.SIZE))
    assert plan.nbytes == 9 * 32 * 48 * 3
