"""Taking one array out of a store, into a file that other programs read: NumPy, safetensors or NetCDF.

Values are written block by block, so that an array may be larger than memory. The file appears under its name
when it is complete, and never in place of another without being asked.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Generator
from importlib import util
from pathlib import Path
from typing import Final, NamedTuple

import dask.array
import numpy as np
import xarray as xr

from store import files
from store.errors import StoreError

_SAFETENSORS: Final = {
    **{"bool": "BOOL", "int8": "I8", "int16": "I16", "int32": "I32", "int64": "I64", "uint8": "U8", "uint16": "U16"},
    **{"uint32": "U32", "uint64": "U64", "float16": "F16", "float32": "F32", "float64": "F64"},
}


class Exported(NamedTuple):
    """What `export` wrote."""

    path: Path
    shape: tuple[int, ...]
    dtype: str
    nbytes: int
    """Of the file."""


def export(array: xr.DataArray, out: Path, *, overwrite: bool = False) -> Exported:
    """Write what `ActivationStore.load` gave to a file.

    Args:
        array: The array, lazy or not.
        out: The file. Its suffix says the format: `.npy` (values only), `.safetensors` (values, and the labels as JSON
            in its metadata) or `.nc` (NetCDF-4 with all labels, as xarray opens it).
        overwrite: Replace a file that is there.

    Raises:
        StoreError: another suffix, or a package for it is missing.
        FileExistsError: `out` is there, and `overwrite` is False.
        StoreFull, ReadOnlyStore: it cannot be written.
    """
    writers = {".npy": _npy, ".safetensors": _safetensors, ".nc": _netcdf}
    write = writers.get(out.suffix)
    if write is None:
        raise StoreError(f"{out.name} has no suffix that says a format; use one of {', '.join(writers)}")
    with _appearing(out, overwrite=overwrite) as temporary:
        write(array, temporary)
    return Exported(out, array.shape, str(array.dtype), out.stat().st_size)


@contextlib.contextmanager
def _appearing(out: Path, *, overwrite: bool) -> Generator[Path]:
    """A temporary file beside `out` that takes its name at the end."""
    if out.exists() and not overwrite:
        raise OutputExists(out)
    temporary = out.with_name(f".{out.name}.{files.token()}{files.TEMPORARY}")
    try:
        with files.translated(out):
            yield temporary
            files.sync(temporary)
            if overwrite:
                os.replace(temporary, out)
                return
            try:
                os.link(temporary, out)
            except FileExistsError:
                raise OutputExists(out) from None
    finally:
        temporary.unlink(missing_ok=True)


class OutputExists(StoreError, FileExistsError):
    """The file to write is there already."""

    def __init__(self, out: Path) -> None:
        super().__init__(f"{out} is there already; choose another name, or ask to overwrite it")


def _npy(array: xr.DataArray, path: Path) -> None:
    with path.open("wb") as file:
        description = {"descr": np.lib.format.dtype_to_descr(array.dtype), "fortran_order": False, "shape": array.shape}
        np.lib.format.write_array_header_2_0(file, description)
    _append(array, path)


def _safetensors(array: xr.DataArray, path: Path) -> None:
    """8 bytes with the header's length, the header as JSON, the values in C order: https://hf.co/docs/safetensors."""
    labels = {str(name): [list(values.dims), values.values.tolist()] for name, values in array.coords.items()}
    about = {"dims": list(array.dims), "coords": labels, "attrs": array.attrs}
    tensor = {"dtype": _SAFETENSORS[str(array.dtype)], "shape": array.shape, "data_offsets": [0, array.nbytes]}
    metadata = {name: json.dumps(value, default=str) for name, value in about.items()}
    header = json.dumps({"__metadata__": metadata, str(array.name): tensor}).encode()
    header += b" " * (-len(header) % 8)
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    _append(array, path)


def _append(array: xr.DataArray, path: Path) -> None:
    """Store the values in C order at the end of a file, a dask chunk at a time."""
    offset = path.stat().st_size
    _reserve(path, offset + array.nbytes)
    target = np.memmap(path, dtype=array.dtype, mode="r+", offset=offset, shape=array.shape)
    values = array.data
    if isinstance(values, dask.array.Array):
        dask.array.store(values, target, lock=False)  # chunks do not overlap
    else:
        target[...] = values
    target.flush()


def _reserve(path: Path, nbytes: int) -> None:
    """Take the room now: a full disk is an error here, and the end of the process where mapped memory is written."""
    with path.open("r+b") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, nbytes)
        else:
            file.truncate(nbytes)


def _netcdf(array: xr.DataArray, path: Path) -> None:
    if any(util.find_spec(package) is None for package in ("h5netcdf", "h5py")):
        raise StoreError("NetCDF needs the package h5netcdf; install it with: pip install 'stepscope[netcdf]'")
    if array.dtype == np.float16:
        raise StoreError("NetCDF has no float16; export to .npy or .safetensors, or convert first: .astype('float32')")
    plain = array.assign_attrs({name: value for name, value in array.attrs.items() if value is not None})
    with path.open("w+b") as file:  # ours, because xarray makes a file that it was given by name anew when it fails
        plain.to_dataset(name=str(array.name)).to_netcdf(file, engine="h5netcdf")
