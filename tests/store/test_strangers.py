"""People without our packages read our files with plain xarray and zarr."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import store
from tests.store import small


@pytest.fixture(scope="module")
def run_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with float32, pixels, text and bfloat16 in it."""
    acts = store.open(tmp_path_factory.mktemp("strangers") / "acts", mode="a")
    with acts.begin_run(small.run(1), small.PROVENANCE) as writer:
        small.write_energy(writer, 1)
        pixels = np.arange(2 * 3 * 2 * 2 * 3, dtype=np.uint8).reshape(2, 3, 2, 2, 3)
        options: dict[str, Any] = {"coords": {"step": [0, 1]}, "attrs": {"units": "1"}}
        writer.add_array(
            "x0_hat",
            "pixels",
            dims=("step", "frame", "y", "x", "channel"),
            shape=pixels.shape,
            dtype="uint8",
            **options,
        )
        writer.add_array("x0_hat", "half", dims=("step", "x"), shape=(2, 2), dtype="bfloat16", **options)
        for step in range(2):
            writer.write("x0_hat", "pixels", {"step": step}, pixels[step])
            writer.write("x0_hat", "half", {"step": step}, np.array([0x3F80, 0xC000], np.uint16))
        writer.set_steps(small.infos(2))
        return acts.run(writer.commit(1.0)).path


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The installed packages without ours."""
    folder = tmp_path_factory.mktemp("site")
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if "stepscope" not in path.name:
            (folder / path.name).symlink_to(path)
    return folder


def elsewhere(code: str, others: Path, run_path: Path) -> Any:
    """What `code` prints as JSON in an interpreter that cannot import our packages."""
    code = f"import sys; sys.path.append({str(others)!r}); path = {str(run_path)!r}\n{code}"
    command = [sys.executable, "-I", "-S", "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_xarray_sees_dimensions_and_coordinates(run_path, others):
    seen = elsewhere(
        """
import importlib.util, json, xarray
assert importlib.util.find_spec("store") is None
root = xarray.open_zarr(path, consolidated=False)
energy = xarray.open_zarr(path + "/resid_post/energy", consolidated=False)
part = energy.energy.sel(branch="cond", layer=1, step=0)
print(json.dumps({
    "root": {name: list(value.dims) for name, value in root.coords.items()},
    "variables": list(root.data_vars),
    "run_id": root.attrs["run_id"],
    "seed": root.attrs["run"]["seed"],
    "dims": dict(energy.sizes),
    "coords": {name: list(value.dims) for name, value in energy.coords.items()},
    "expert": energy.expert.values.tolist(),
    "part": part.values.tolist(),
    "sigma": float(part.sigma),
}))
""",
        others,
        run_path,
    )
    along_step = ("step", "timestep", "sigma", "sigma_next", "expert", "guidance")
    assert seen["root"] == {name: ["step"] for name in along_step}
    assert seen["variables"] == []
    assert (seen["run_id"], seen["seed"]) == (run_path.name, 1)
    assert seen["dims"] == {"step": 2, "branch": 1, "layer": 2, "frame": 3, "y": 4, "x": 4}
    axes = {name: [name] for name in ("step", "branch", "layer", "frame")}
    assert seen["coords"] == axes | {name: ["step"] for name in ("timestep", "sigma", "expert")}
    assert seen["expert"] == ["transformer", "transformer_2"]
    np.testing.assert_array_equal(seen["part"], small.energy(1)[0, 0, 1].astype(np.float64))
    assert seen["sigma"] == 1.0


def test_zarr_reads_everything_but_bfloat16(run_path, others):
    seen = elsewhere(
        """
import json, zarr
group = zarr.open_group(path, mode="r")
try:
    group["x0_hat/half/half"]
    bfloat16 = "opened"
except ValueError as error:
    bfloat16 = str(error)
pixels = group["x0_hat/pixels/pixels"]
print(json.dumps({
    "groups": sorted(name for name, _ in group.groups()),
    "pixels": pixels[1, 2].tolist(),
    "attrs": dict(pixels.attrs),
    "energy": group["resid_post/energy/energy"][...].tolist(),
    "bfloat16": bfloat16,
}))
""",
        others,
        run_path,
    )
    assert seen["groups"] == ["resid_post", "x0_hat"]
    assert seen["pixels"] == np.arange(60, 72).reshape(2, 2, 3).tolist()
    assert seen["attrs"] == {"units": "1"}
    np.testing.assert_array_equal(seen["energy"], small.energy(1).astype(np.float64))
    assert "bfloat16" in seen["bfloat16"]


@pytest.fixture(scope="module")
def wide_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in which every profile and encoding holds the same values, of whole numbers that bfloat16 holds."""
    acts = store.open(tmp_path_factory.mktemp("wide") / "acts", mode="a")
    with acts.begin_run(small.run(2), small.PROVENANCE) as writer:
        for site, dtype, options in WIDE:
            writer.add_array(
                site,
                "full",
                dims=("step", "layer", "frame", "y", "x", "channel"),
                shape=wide().shape,
                dtype=dtype,
                coords={"step": [0, 1], "layer": [4, 9]},
                **options,
            )
            values = wide() if dtype == "float32" else (wide().view(np.uint32) >> 16).astype(np.uint16)
            for step, layer in np.ndindex(2, 2):
                writer.write(site, "full", {"step": step, "layer": layer}, values[step, layer])
        writer.set_steps(small.infos(2))
        return acts.run(writer.commit(1.0)).path


WIDE: list[tuple[str, str, dict[str, Any]]] = [
    ("fast", "float32", {}),
    ("compact", "float32", {"profile": "compact"}),
    ("fast_half", "bfloat16", {}),
    ("compact_half", "bfloat16", {"profile": "compact"}),
    ("lossy", "float32", {"encoding": "int8"}),
    ("lossy_compact", "float32", {"encoding": "int8", "profile": "compact"}),
]


def wide() -> np.ndarray:
    """`[step, layer, frame, y, x, channel]`; with a largest value of 127 everywhere, int8 is exact."""
    values = np.random.default_rng(0).integers(-127, 128, (2, 2, 3, 8, 9, 5)).astype(np.float32)
    values[..., 0, 0, :] = 127
    return values


def test_zarr_tensorstore_and_xarray_open_the_same_run(wide_run, others):
    """Every array with all three; zarr and xarray need our data type for bfloat16, as the docs say."""
    seen = elsewhere(
        """
import json, tensorstore, xarray, zarr
from numcodecs import blosc
said = {}
for site in ("fast", "compact", "fast_half", "compact_half", "lossy", "lossy_compact"):
    folder = f"{path}/{site}/full/full"
    opened = tensorstore.open({"driver": "zarr3", "kvstore": f"file://{folder}/"}).result()
    values = {"tensorstore": opened.read().result().astype("float32").tolist()}
    if "half" not in site:
        values["zarr"] = zarr.open_array(folder, mode="r")[...].astype("float32").tolist()
        dataset = xarray.open_zarr(f"{path}/{site}/full", consolidated=False)
        values["xarray"] = dataset.full.values.astype("float32").tolist()
        assert dataset.full.sel(layer=9, step=1).dims == ("frame", "y", "x", "channel")
    if "lossy" in site:
        scale = xarray.open_zarr(f"{path}/{site}/full_scale", consolidated=False).full_scale
        assert scale.dims == ("step", "layer", "frame", "channel")
        values["scaled"] = (dataset.full * scale).values.tolist()
    said[site] = values
print(json.dumps(said))
""",
        others,
        wide_run,
    )
    for site, dtype, _ in WIDE:
        names = {"tensorstore"} if dtype == "bfloat16" else {"tensorstore", "zarr", "xarray"}
        assert seen[site].keys() == names | ({"scaled"} if "lossy" in site else set())
        for name, values in seen[site].items():
            np.testing.assert_array_equal(values, wide(), err_msg=f"{site} by {name}")


def test_writing_needs_no_reader_library(tmp_path):
    """A GPU node has neither duckdb nor zarr, xarray, dask or polars, and the store never asks for torch."""
    code = f"""
import sys
absent = ["duckdb", "zarr", "xarray", "dask", "polars", "torch", "numcodecs"]
sys.modules.update(dict.fromkeys(absent))
import store
from tests.store import small
acts = store.open({str(tmp_path / "acts")!r}, mode="a")
acts.put_sample(small.sample())
print(acts.run(small.commit(acts)).nbytes, acts.sample(acts.sample_ids()[0]).id == small.sample().id)
"""
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=False)
    assert (done.returncode, done.stdout) == (0, f"{small.energy(0).nbytes} True\n"), done.stderr
