"""Columns settled in turn: targets are what the definition says, and their costs add up to the error of the outputs."""

from __future__ import annotations

import numpy as np
import pytest

from compress_ops.graph.compensation import factor_of, settle
from tests.helpers import noise

EPS = np.finfo(np.float32).eps


def hessian_of(inner, seed=0):
    x = (noise(3 * inner, inner, seed=seed) + noise(3 * inner, 1, seed=seed + 1)).astype(np.float64)
    return x.T @ x


@pytest.mark.parametrize("inner", [5, 128, 300])
def test_costs_add_up_to_the_error_of_the_outputs(inner):
    hessian, columns = hessian_of(inner), noise(inner, 7, seed=3)
    factor, costs, result = factor_of(hessian, np.arange(inner), 1e-9), [], np.empty_like(columns)

    def halved(j, target):
        result[j] = np.rint(target)
        costs.append((factor.diagonal[j] * (target - result[j]).astype(np.float64)) ** 2)
        return result[j]

    settle(columns, factor, halved)
    error = (columns - result).astype(np.float64)
    expected = np.einsum("ir,ij,jr->r", error, hessian, error)
    np.testing.assert_allclose(np.sum(costs, axis=0), expected, rtol=20 * inner * EPS)


def test_targets_are_those_of_the_definition():
    inner = 300
    hessian, columns = hessian_of(inner), noise(inner, 3, seed=3)
    lower = np.linalg.cholesky(hessian)
    result = np.empty((inner, 3))

    def rounded(j, target):
        gone = columns[j + 1 :] - result[j + 1 :]
        np.testing.assert_allclose(target, columns[j] + lower[j + 1 :, j] / lower[j, j] @ gone, atol=inner * EPS * 10)
        result[j] = np.rint(target)
        return result[j]

    settle(columns, factor_of(hessian, np.arange(inner), 1e-12), rounded)


@pytest.mark.parametrize(("span", "width"), [(4, 128), (128, 128), (6, 126)])
def test_every_span_is_shown_what_it_would_be_at_no_cost(span, width):
    """That is where the error is least over the columns not settled yet: a linear system of its own."""
    inner, shown, result = 150, [], np.empty((150, 3))
    hessian, columns = hessian_of(inner), noise(inner, 3, seed=3)
    damped = hessian + 0.01 * np.diag(hessian).mean() * np.eye(inner)

    def begin(part, free):
        open_, done = slice(0, part.stop), slice(part.stop, inner)
        pull = damped[open_, done] @ (columns[done] - result[done])
        best = columns[open_] + np.linalg.solve(damped[open_, open_], pull)
        np.testing.assert_allclose(free, best[part], atol=inner * EPS)
        shown.append((part.start, part.stop))

    def rounded(j, target):
        result[j] = np.rint(target)
        return result[j]

    settle(columns, factor_of(hessian, np.arange(inner), 0.01), rounded, span, begin, width)
    ends = [end for _, end in shown]
    assert ends[0] == inner and [start for start, _ in shown] == [*ends[1:], 0]
    assert all(end - start == span for start, end in shown if start % width == inner % width or start > inner % width)


def test_more_damping_where_the_hessian_is_not_definite():
    hessian = np.diag([1.0, 1.0, -0.5])
    factor = factor_of(hessian, np.arange(3), 0.01)
    assert np.isfinite(factor.unit).all() and (factor.diagonal > 0).all()
