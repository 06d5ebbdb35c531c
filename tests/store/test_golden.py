"""A store of format 1 that was committed as files stays readable: by us, by plain xarray, and from the docs alone."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import crc32c
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xarray as xr
from numcodecs import blosc
from numpy.typing import NDArray

import store
from tests.golden import make_store as golden

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
FIRST = GOLDEN / "format_1"
"""The first store of format 1, never written again."""
FORMAT_1 = GOLDEN / "format_1_encodings"
"""The same with blosc and with both lossy encodings."""
RUN, SAMPLE, RESULT = "c21690e76efa3f32", "963c6f54be4bf57e", "adf99cef2001bb0b"


@pytest.fixture
def acts(tmp_path: Path) -> store.ActivationStore:
    """A copy, because asking makes an index beside the manifests."""
    shutil.copytree(FORMAT_1, tmp_path / "acts")
    return store.open(tmp_path / "acts")


def test_ids_stay_what_they_were(acts):
    """A hash that changes would make every sweep start again."""
    assert (golden.run().id, golden.sample().id, golden.record().id) == (RUN, SAMPLE, RESULT)
    assert (acts.run_ids(), acts.sample_ids(), acts.result_ids()) == ([RUN], [SAMPLE], [RESULT])


def test_records_come_back(acts):
    entry = acts.run(RUN)
    assert (entry.run, entry.provenance, entry.seconds) == (golden.run(), golden.PROVENANCE, 1.5)
    assert (entry.steps, entry.scores) == (tuple(golden.steps()), golden.scores())
    sample = acts.sample(SAMPLE)
    assert sample.record == golden.sample().record
    for name, values in golden.sample().arrays().items():
        np.testing.assert_array_equal(getattr(sample, name), values, strict=True)
    result = acts.result(RESULT)
    assert (result.record, result.provenance) == (golden.record(), golden.PROVENANCE)
    xr.testing.assert_identical(result.data.load(), golden.data())


def test_the_first_store_of_format_1_reads_as_it_did(tmp_path):
    shutil.copytree(FIRST, tmp_path / "first")
    acts = store.open(tmp_path / "first")
    assert (acts.run_ids(), acts.sample_ids(), acts.result_ids()) == ([RUN], [SAMPLE], [RESULT])
    for site in ("resid_post", "attn_out"):
        np.testing.assert_array_equal(acts.load(site, "energy").values[0], golden.energy(), strict=True)
    assert acts.load("latent", "full").values[0].tolist() == [[1.0, -2.0], [0.5, np.inf]]
    np.testing.assert_array_equal(acts.sample(SAMPLE).first_frame, golden.sample().first_frame, strict=True)
    xr.testing.assert_identical(acts.result(RESULT).data.load(), golden.data())


def test_arrays_come_back(acts):
    for site in ("resid_post", "attn_out"):
        np.testing.assert_array_equal(acts.load(site, "energy").values[0], golden.energy(), strict=True)
        one = acts.load(site, "energy", step=20, branch="cond", layer=9, frame=1)
        np.testing.assert_array_equal(one.values[0], golden.energy()[1, 0, 1, 1])
        assert (float(one.sigma), str(one.expert.values)) == (0.25, "transformer_2")
    assert acts.load("latent", "full").values[0].tolist() == [[1.0, -2.0], [0.5, np.inf]]
    np.testing.assert_array_equal(acts.load("output", "pixels").values[0], golden.pixels(), strict=True)
    for site, error in (("mlp_out", 1 / 254), ("q", 1 / 16)):
        loaded = acts.load(site, "full").values[0]
        assert loaded.dtype == np.float32
        largest = np.abs(golden.wide()).max(axis=(3, 4), keepdims=True)
        assert (np.abs(loaded - golden.wide()) <= error * largest * (1 + 1e-6)).all()


def test_every_view_answers(acts):
    counts = {
        view: acts.sql(f"SELECT count(*) FROM {view}").fetchall()[0][0]
        for (view,) in acts.sql("SHOW TABLES").fetchall()
    }
    assert counts == {"arrays": 8, "results": 1, "runs": 1, "samples": 1, "scores": 2, "steps": 2, "token_stats": 16}
    assert (
        acts.sql("SELECT mean FROM token_stats WHERE step = 20 AND layer = 9 AND frame = 1").fetchall()
        == [(float(golden.energy()[1, 0, 1, 1].mean()),)] * 2
    )


def test_plain_xarray_opens_it_without_our_packages(acts):
    """Sharded, bundled and compressed; every warning is an error, and our packages cannot be imported."""
    code = """
import json, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("store", "interp", "analyses", "reports", "stepscope", "tests"):
            raise ImportError(name)
sys.meta_path.insert(0, Absent())
import xarray, zarr
path = sys.argv[1]
seen = {"root": xarray.open_zarr(path, consolidated=False).coords["expert"].values.tolist()}
for site in ("resid_post", "attn_out"):
    data = xarray.open_zarr(f"{path}/{site}/energy", consolidated=False)
    coords = {name: [list(values.dims), values.values.tolist()] for name, values in data.coords.items()}
    plain = zarr.open_array(f"{path}/{site}/energy/energy", mode="r")
    seen[site] = [list(data.energy.dims), coords, data.energy.values.tolist(), plain[...].tolist()]
seen["pixels"] = xarray.open_zarr(f"{path}/output/pixels", consolidated=False).pixels.values.tolist()
print(json.dumps(seen))
"""
    command = [sys.executable, "-I", "-W", "error", "-c", code, str(acts.path / "runs" / RUN)]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", check=False)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    along_step = {"timestep": [900.0, 300.0], "sigma": [0.75, 0.25], "expert": ["transformer", "transformer_2"]}
    axes = {"step": [10, 20], "branch": ["cond"], "layer": [4, 9], "frame": [0, 1]}
    coords = {name: [[name], labels] for name, labels in axes.items()}
    coords |= {name: [["step"], values] for name, values in along_step.items()}
    assert seen["root"] == along_step["expert"]
    for site in ("resid_post", "attn_out"):
        assert seen[site] == [list(golden.AXES), coords, golden.energy().tolist(), golden.energy().tolist()]
    assert seen["pixels"] == golden.pixels().tolist()


def stranger_reads(root: Path, manifest: dict[str, Any], info: dict[str, Any]) -> NDArray[Any]:
    """The values of one array as docs/store-format.md describes them, with nothing of ours.

    bfloat16 as its bits.
    """
    folder = root / manifest["path"] / info["site"] / info["reduction"] / info["reduction"]
    node = json.loads((folder / "zarr.json").read_text())
    (sharding,) = (codec["configuration"] for codec in node["codecs"])
    kind = np.dtype("<u2" if node["data_type"] == "bfloat16" else node["data_type"]).newbyteorder("<")
    shape, shard, chunk = node["shape"], node["chunk_grid"]["configuration"]["chunk_shape"], sharding["chunk_shape"]
    codec = [codec["name"] for codec in sharding["codecs"]][1:]
    values = np.empty(shape, kind)
    counts = [whole // part for whole, part in zip(shard, chunk, strict=True)]
    assert {row["file"] for row in info["shards"]} == {path.name for path in folder.glob("c.*")}
    for row in info["shards"]:
        data = (folder / row["file"]).read_bytes()
        assert (len(data), f"{crc32c.crc32c(data):08x}") == (row["nbytes"], row["crc32c"])
        index, checksum = data[-4 - 16 * int(np.prod(counts)) : -4], data[-4:]
        assert crc32c.crc32c(index) == int.from_bytes(checksum, "little")
        place = [int(number) for number in row["file"].split(".")[1:]]
        table = np.frombuffer(index, "<u8").reshape(-1, 2).tolist()
        for inner, (offset, length) in zip(np.ndindex(*counts), table, strict=True):
            part = data[offset : offset + length]
            if codec == ["blosc"]:
                part = blosc.decompress(part)
            elif codec == ["zstd"]:
                part = pa.Codec("zstd").decompress(part, decompressed_size=int(np.prod(chunk)) * kind.itemsize)
            start = [file * whole + at * size for file, whole, at, size in zip(place, shard, inner, chunk, strict=True)]
            where = tuple(slice(at, at + size) for at, size in zip(start, chunk, strict=True))
            values[where] = np.frombuffer(part, kind).reshape(chunk)
    return values


def restored(numbers: NDArray[Any], scale: NDArray[Any], encoding: str) -> NDArray[Any]:
    """Numbers × scales, both `[step, layer, frame, …]`, as docs/store-format.md says."""
    if encoding == "float8":
        sign, exponent, mantissa = np.where(numbers >> 7, -1.0, 1.0), numbers >> 3 & 15, (numbers & 7) / 8
        size = np.where(exponent > 0, (1 + mantissa) * 2.0 ** (exponent.astype(int) - 7), mantissa * 2.0**-6)
        numbers = sign * size
    return numbers * scale[:, :, :, None, None, :]


def test_the_docs_are_enough_to_write_a_reader(acts):
    (path,) = (acts.path / "manifests" / "runs").glob("*.parquet")
    (manifest,) = pq.read_table(path).to_pylist()
    assert manifest["format"] == 1
    found = {
        (info["site"], info["reduction"]): stranger_reads(acts.path, manifest, info) for info in manifest["arrays"]
    }
    wanted = {
        ("resid_post", "energy"): golden.energy(),
        ("attn_out", "energy"): golden.energy(),
        ("latent", "full"): golden.bits(),
        ("output", "pixels"): golden.pixels(),
    }
    told = {info["site"]: info["encoding"] for info in manifest["arrays"] if info["reduction"] == "full"}
    assert told == {"latent": "exact", "mlp_out": "int8", "q": "float8"}
    for site in ("mlp_out", "q"):
        numbers, scale = found.pop((site, "full")), found.pop((site, "full_scale"))
        loaded = acts.load(site, "full").values[0]
        np.testing.assert_allclose(restored(numbers, scale, told[site]), loaded, rtol=1e-6)
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        np.testing.assert_array_equal(found[name], values, strict=True)


def test_todays_code_writes_the_same_files(acts, tmp_path):
    """The script and the committed files belong together; only the manifests' Parquet may differ in its bytes."""
    golden.main(tmp_path / "again")
    for folder in ("runs", "samples"):
        old, new = (
            {path.relative_to(root / folder): path for path in (root / folder).rglob("*") if path.is_file()}
            for root in (acts.path, tmp_path / "again")
        )
        assert old.keys() == new.keys()
        assert [name for name in old if old[name].read_bytes() != new[name].read_bytes()] == []
