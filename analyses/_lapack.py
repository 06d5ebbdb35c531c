"""Cholesky's factors by LAPACK, in place and without the interpreter's lock, so that threads of dask work side by side.

SciPy's own wrappers hold the lock, and NumPy has no triangular solves. The routines are those that SciPy offers to
compiled code (`scipy.linalg.cython_lapack`, `cython_blas`), called through ctypes, which lets the lock go.

A symmetric matrix `[n, n]` is C-contiguous and of it the *upper* triangle counts (for LAPACK, which has columns first,
the lower one); right-hand sides are rows `[c, n]`. All float32 or all float64.
"""

from __future__ import annotations

import ctypes
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[Any]


def factor(matrix: Matrix) -> None:
    """Replace a positive definite matrix by its factor.

    Raises:
        LinAlgError: it is not, to rounding.
    """
    n = _square(matrix)
    info = ctypes.c_int()
    _routine("potrf", matrix.dtype.char)(b"L", _int(n), _of(matrix), _int(n), ctypes.byref(info))
    if info.value:
        raise np.linalg.LinAlgError(f"not positive definite at row {info.value} of {n}")


def solve(factored: Matrix, right: Matrix) -> None:
    """Replace `right` `[c, n]` by the solutions of the matrix whose factor this is."""
    n = _square(factored)
    _rows(right, factored)
    info = ctypes.c_int()
    potrs = _routine("potrs", factored.dtype.char)
    potrs(b"L", _int(n), _int(len(right)), _of(factored), _int(n), _of(right), _int(n), ctypes.byref(info))


def invert(factored: Matrix) -> None:
    """Replace a factor by the inverse of its matrix."""
    n = _square(factored)
    info = ctypes.c_int()
    _routine("potri", factored.dtype.char)(b"L", _int(n), _of(factored), _int(n), ctypes.byref(info))


def product(matrix: Matrix, right: Matrix) -> Matrix:
    """A symmetric matrix times each row of `right`, `[c, n]`."""
    n = _square(matrix)
    _rows(right, matrix)
    out = np.empty_like(right)
    number = ctypes.c_float if matrix.dtype.char == "f" else ctypes.c_double
    one, zero = ctypes.byref(number(1)), ctypes.byref(number(0))
    size, count = _int(n), _int(len(right))
    symm = _routine("symm", matrix.dtype.char)
    symm(b"L", b"L", size, count, one, _of(matrix), size, _of(right), size, zero, _of(out), size)
    return out


def add_outer(matrix: Matrix, row: Matrix, factor: float) -> None:
    """Add a factor times the outer product of a row `[n]` with itself to a symmetric matrix, of its upper triangle."""
    n = _square(matrix)
    _rows(row[None], matrix)
    number = (ctypes.c_float if matrix.dtype.char == "f" else ctypes.c_double)(factor)
    syr = _routine("syr", matrix.dtype.char)
    syr(b"L", _int(n), ctypes.byref(number), _of(row), _int(1), _of(matrix), _int(n))


def _square(matrix: Matrix) -> int:
    n = len(matrix)
    if matrix.shape != (n, n) or not matrix.flags.c_contiguous or matrix.dtype.char not in "fd":
        raise ValueError(f"not a C-contiguous square matrix of float32 or float64: {matrix.shape}, {matrix.dtype}")
    return n


def _rows(right: Matrix, matrix: Matrix) -> None:
    if right.shape[1:] != matrix.shape[1:] or right.dtype != matrix.dtype or not right.flags.c_contiguous:
        raise ValueError(f"not C-contiguous rows of {matrix.dtype} [c, {len(matrix)}]: {right.shape}, {right.dtype}")


def _int(value: int) -> Any:
    return ctypes.byref(ctypes.c_int(value))


def _of(array: Matrix) -> Any:
    return ctypes.c_void_p(array.ctypes.data)


@cache
def _routine(name: str, kind: str) -> Any:
    """A routine of float32 (`f`) or float64 (`d`) that ctypes can call."""
    full = {"f": "s", "d": "d"}[kind] + name
    libraries: list[Any] = [import_module(f"scipy.linalg.cython_{library}") for library in ("lapack", "blas")]
    capsule = next(one.__pyx_capi__[full] for one in libraries if full in one.__pyx_capi__)
    get_name, get_pointer = ctypes.pythonapi.PyCapsule_GetName, ctypes.pythonapi.PyCapsule_GetPointer
    get_name.restype, get_name.argtypes = ctypes.c_char_p, [ctypes.py_object]
    get_pointer.restype, get_pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return ctypes.CFUNCTYPE(None)(get_pointer(capsule, get_name(capsule)))
