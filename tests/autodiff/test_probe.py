"""Random directions at the outputs, and what their mean comes to."""

from __future__ import annotations

import numpy as np

from compress_ops.autodiff import build_gradients, drawn_signs
from compress_ops.autodiff.sweep import GradientModel
from compress_ops.model import Model
from compress_ops.runtime import CPU, Arrays, open_session
from tests.helpers import model_of, noise

A, B = noise(6, 4), noise(6, 3, seed=1)
TEXT = "g (float[n,6] x) => (float[n,4] y, float[n,3] z) { y = MatMul(x, a) z = MatMul(x, b) }"


def built() -> tuple[Model, GradientModel]:
    model = model_of(TEXT, a=A, b=B)
    return model, build_gradients(model, of=["y", "z"], parameters=[], inputs=["x"], shapes={"x": (2, 6)})


def test_directions_are_signs_over_the_norm_of_each_output() -> None:
    _, gradients = built()
    values = {"y": noise(2, 4, scale=100), "z": noise(2, 3), "other": noise(5)}
    signs = drawn_signs(values, gradients, np.random.default_rng(0))
    assert signs.keys() == set(gradients.upstream.values())
    for name, given in gradients.upstream.items():
        assert signs[given].dtype == np.float32
        np.testing.assert_allclose(np.abs(signs[given]), 1 / np.linalg.norm(values[name]), rtol=1e-6)


def test_an_output_of_nothing_but_zeros_counts_as_it_is() -> None:
    _, gradients = built()
    signs = drawn_signs({"y": np.zeros((2, 4), np.float32), "z": noise(2, 3)}, gradients, np.random.default_rng(0))
    assert (np.abs(signs[gradients.upstream["y"]]) == 1).all()


def test_the_mean_square_of_slope_times_error_is_what_the_outputs_move() -> None:
    """E (g.e)^2 = sum over outputs of |J e|^2 / |y|^2; the mean of 500 draws is off by sqrt(2 / 500), four such."""
    _, gradients = built()
    x, e = noise(2, 6, seed=2), 0.1 * noise(2, 6, seed=3)
    values: Arrays = {"y": x @ A, "z": x @ B}
    expected = sum(np.square(e @ w).sum() / np.square(values[name]).sum() for name, w in (("y", A), ("z", B)))
    rng, found, slope = np.random.default_rng(0), [], gradients.gradients["x"]
    with gradients.model.exported() as path:
        session = open_session(path, CPU, threads=1)
    for _ in range(500):
        given = session.run(session.taken({"x": x, **drawn_signs(values, gradients, rng)}), [slope])
        found.append(np.vdot(given[slope], e) ** 2)
    np.testing.assert_allclose(np.mean(found), expected, rtol=4 * np.sqrt(2 / 500))


def test_equal_seeds_draw_equal_directions() -> None:
    _, gradients = built()
    values = {"y": noise(2, 4), "z": noise(2, 3)}
    one, other = (drawn_signs(values, gradients, np.random.default_rng(5)) for _ in range(2))
    assert all((one[name] == other[name]).all() for name in one)
