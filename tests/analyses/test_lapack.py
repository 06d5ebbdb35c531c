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
    lower_is_not_read = np.triu(matrix) + np.tril(np.full_like(matrix, np.nan), -1)
    inverse = lower_is_not_read.copy()
    _lapack.invert(inverse)
    np.testing.assert_allclose(np.triu(inverse), np.triu(np.linalg.inv(matrix.astype(float))), **close)
    np.testing.assert_allclose(_lapack.product(lower_is_not_read, right), right @ matrix, **close)
    root, columns = lower_is_not_read.copy(), right.T.copy()
    _lapack.root(root)
    _lapack.whiten(root, columns)
    np.testing.assert_allclose(columns.T @ columns, right @ solved.T, **close)
    _lapack.unwhiten(root, columns)
    np.testing.assert_allclose(columns, solved.T, **close)
    wide = np.concatenate([right, right], axis=1)
    for rows in (right, right[:1], wide[:, n:], wide[:1, n:]):
        summed = lower_is_not_read.copy()
        _lapack.add_products(summed, rows, -0.5)
        np.testing.assert_allclose(np.triu(summed), np.triu(matrix - rows.T @ rows / 2), **close)
        assert np.isnan(summed[np.tril_indices(n, -1)]).all()


def test_what_is_not_positive_definite_is_said():
    with pytest.raises(np.linalg.LinAlgError, match="row 2 of 2"):
        _lapack.factor(np.array([[1.0, 2.0], [2.0, 1.0]]))
    large = np.eye(200)
    large[150, 150] = -1
    for inverting in (_lapack.root, _lapack.invert):
        with pytest.raises(np.linalg.LinAlgError, match="not positive definite"):
            inverting(large.copy())


def test_what_lapack_would_read_wrongly_is_refused():
    matrix = definite(4, np.float64)
    for wrong in (matrix[:, ::2], matrix[:3], np.asfortranarray(matrix)[:, ::-1], matrix.astype(np.float16)):
        with pytest.raises(ValueError, match="not a C-contiguous square"):
            _lapack.factor(wrong)
    for right in (np.ones((2, 3)), np.ones((2, 4), np.float32), np.asfortranarray(np.ones((2, 4)))):
        with pytest.raises(ValueError, match="not C-contiguous rows"):
            _lapack.solve(matrix, right)
    for columns in (np.ones((3, 2)), np.ones((4, 2), np.float32), np.ones((2, 4)).T):
        with pytest.raises(ValueError, match="not C-contiguous columns"):
            _lapack.whiten(matrix, columns)
    with pytest.raises(ValueError, match="not rows of float64"):
        _lapack.add_products(matrix, np.ones((4, 4, 2))[..., 0], 1)
