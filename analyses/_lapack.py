"""Cholesky's factors by LAPACK, in place and without the interpreter's lock, so that threads of dask work side by side.

SciPy's own wrappers hold the lock, and NumPy has no triangular solves. The routines are those that SciPy offers to
compiled code (`scipy.linalg.cython_lapack`, `cython_blas`), called through ctypes, which lets the lock go.

A symmetric matrix `[n, n]` is C-contiguous and of it the *upper* triangle counts (for LAPACK, which has columns first,
the lower one); right-hand sides are rows `[c, n]`, unless they are called columns. All float32 or all float64.
"""

from __future__ import annotations

import ctypes
from functools import cache
from importlib import import_module
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[Any]
LEAF: Final = 64
"""`root` leaves matrices of at most as many rows to LAPACK."""


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


def root(matrix: Matrix) -> None:
    """Replace a positive definite matrix by the inverse of its factor.

    By halves, whose products are fast: OpenBLAS takes twice as long to invert a whole factor.

    Raises:
        LinAlgError: as of `factor`.
    """
    _root(matrix.ctypes.data, _square(matrix), len(matrix), matrix.dtype)


def whiten(root: Matrix, columns: Matrix) -> None:
    """Replace columns B `[n, m]` by W with Wᵀ W = Bᵀ A⁻¹ B, A the matrix that the root is of."""
    _times(root, columns, b"T")


def unwhiten(root: Matrix, whitened: Matrix) -> None:
    """Replace what `whiten` gave by A⁻¹ B."""
    _times(root, whitened, b"N")


def invert(matrix: Matrix) -> None:
    """Replace a positive definite matrix by its inverse.

    Raises:
        LinAlgError: as of `factor`.
    """
    n = _square(matrix)
    root(matrix)
    info = ctypes.c_int()
    _routine("lauum", matrix.dtype.char)(b"L", _int(n), _of(matrix), _int(n), ctypes.byref(info))


def product(matrix: Matrix, right: Matrix) -> Matrix:
    """A symmetric matrix times each row of `right`, `[c, n]`."""
    n = _square(matrix)
    _rows(right, matrix)
    out = np.empty_like(right)
    one, zero = _number(matrix.dtype, 1), _number(matrix.dtype, 0)
    size, count = _int(n), _int(len(right))
    symm = _routine("symm", matrix.dtype.char)
    symm(b"L", b"L", size, count, one, _of(matrix), size, _of(right), size, zero, _of(out), size)
    return out


def add_products(matrix: Matrix, rows: Matrix, weight: float) -> None:
    """Add a weight times rowsᵀ rows to a symmetric matrix; rows `[k, n]` may be parts of longer ones."""
    n = _square(matrix)
    if rows.shape[1] != n or rows.dtype != matrix.dtype or rows.strides[1] != rows.itemsize:
        raise ValueError(f"not rows of {matrix.dtype} [k, {n}]: {rows.shape}, {rows.dtype}")
    size, factor, one = _int(n), _number(matrix.dtype, weight), _number(matrix.dtype, 1)
    syrk = _routine("syrk", matrix.dtype.char)
    syrk(b"L", b"N", size, _int(len(rows)), factor, _of(rows), _stride(rows), one, _of(matrix), size)


def _root(start: int, n: int, stride: int, dtype: np.dtype[Any]) -> None:
    """`root` of the rows and columns of a matrix that begin at an address."""
    width, one = _int(stride), _number(dtype, 1)
    first, kind = ctypes.c_void_p(start), dtype.char
    if n <= LEAF:
        info = ctypes.c_int()
        _routine("potrf", kind)(b"L", _int(n), first, width, ctypes.byref(info))
        if info.value:
            raise np.linalg.LinAlgError(f"not positive definite at row {info.value} of {n}")
        _routine("trtri", kind)(b"L", b"N", _int(n), first, width, ctypes.byref(info))
        return
    half = n // 2
    below = start + half * (stride + 1) * dtype.itemsize
    corner, last = ctypes.c_void_p(start + half * dtype.itemsize), ctypes.c_void_p(below)
    size, minus = (_int(n - half), _int(half)), _number(dtype, -1)
    trmm, syrk = _routine("trmm", kind), _routine("syrk", kind)
    _root(start, half, stride, dtype)
    trmm(b"R", b"L", b"T", b"N", *size, one, first, width, corner, width)
    syrk(b"L", b"N", *size, minus, corner, width, one, last, width)
    _root(below, n - half, stride, dtype)
    trmm(b"R", b"L", b"N", b"N", *size, one, first, width, corner, width)
    trmm(b"L", b"L", b"N", b"N", *size, minus, last, width, corner, width)


def _times(root: Matrix, columns: Matrix, transposed: bytes) -> None:
    n = _square(root)
    if columns.shape[0] != n or columns.dtype != root.dtype or not columns.flags.c_contiguous:
        raise ValueError(f"not C-contiguous columns of {root.dtype} [{n}, m]: {columns.shape}, {columns.dtype}")
    width, one = _int(columns.shape[1]), _number(root.dtype, 1)
    trmm = _routine("trmm", root.dtype.char)
    trmm(b"R", b"L", transposed, b"N", width, _int(n), one, _of(root), _int(n), _of(columns), width)


def _number(dtype: np.dtype[Any], value: float) -> Any:
    return ctypes.byref((ctypes.c_float if dtype.char == "f" else ctypes.c_double)(value))


def _square(matrix: Matrix) -> int:
    n = len(matrix)
    if matrix.shape != (n, n) or not matrix.flags.c_contiguous or matrix.dtype.char not in "fd":
        raise ValueError(f"not a C-contiguous square matrix of float32 or float64: {matrix.shape}, {matrix.dtype}")
    return n


def _rows(right: Matrix, matrix: Matrix) -> None:
    if right.shape[1:] != matrix.shape[1:] or right.dtype != matrix.dtype or not right.flags.c_contiguous:
        raise ValueError(f"not C-contiguous rows of {matrix.dtype} [c, {len(matrix)}]: {right.shape}, {right.dtype}")


def _stride(rows: Matrix) -> Any:
    return _int(max(rows.strides[0] // rows.itemsize, rows.shape[1]))  # NumPy's of a single row may be 0


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
