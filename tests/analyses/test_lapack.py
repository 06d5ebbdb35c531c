"""LAPACK without the interpreter's lock gives what NumPy gives, and refuses what would be read wrongly."""

from __future__ import annotations

import numpy as np
import pytest

from analyses import _lapack


def definite(n: int, dtype) -> np.ndarray:
    drawn = np.random.default_rng(n).standard_normal((n, n + 3))
    return (drawn @ drawn.T / n + np.eye(n)).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [1, 7, 130])
def test_it_solves_and_inverts(n, dtype):
    matrix, right = definite(n, dtype), np.random.default_rng(1).standard_normal((3, n)).astype(dtype)
    factored, solved = matrix.copy(), right.copy()
    _lapack.factor(factored)
    _lapack.solve(factored, solved)
    close = {"rtol": 1e-3, "atol": 1e-4} if dtype is np.float32 else {"rtol": 1e-9, "atol": 1e-12}
    np.testing.assert_allclose(solved, np.linalg.solve(matrix.astype(float), right.T.astype(float)).T, **close)
    _lapack.invert(factored)
    np.testing.assert_allclose(np.triu(factored), np.triu(np.linalg.inv(matrix.astype(float))), **close)
    lower_is_not_read = np.triu(matrix) + np.tril(np.full_like(matrix, np.nan), -1)
    np.testing.assert_allclose(_lapack.product(lower_is_not_read, right), right @ matrix, **close)
    _lapack.add_outer(lower_is_not_read, right[0], -0.5)
    expected = matrix - np.outer(right[0], right[0]) / 2
    np.testing.assert_allclose(np.triu(lower_is_not_read), np.triu(expected), **close)
    assert np.isnan(lower_is_not_read[np.tril_indices(n, -1)]).all()


def test_what_is_not_positive_definite_is_said():
    with pytest.raises(np.linalg.LinAlgError, match="row 2 of 2"):
        _lapack.factor(np.array([[1.0, 2.0], [2.0, 1.0]]))


def test_what_lapack_would_read_wrongly_is_refused():
    matrix = definite(4, np.float64)
    for wrong in (matrix[:, ::2], matrix[:3], np.asfortranarray(matrix)[:, ::-1], matrix.astype(np.float16)):
        with pytest.raises(ValueError, match="not a C-contiguous square"):
            _lapack.factor(wrong)
    for right in (np.ones((2, 3)), np.ones((2, 4), np.float32), np.asfortranarray(np.ones((2, 4)))):
        with pytest.raises(ValueError, match="not C-contiguous rows"):
            _lapack.solve(matrix, right)
