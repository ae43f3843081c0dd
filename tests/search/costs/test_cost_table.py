"""The table of costs against the models that steps of recipes really make."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from compress_ops.catalogue import PASSES
from compress_ops.data import Dataset
from compress_ops.model import Model, load
from compress_ops.recipe import step_from
from compress_ops.runtime import CPU
from compress_ops.search.costs import observed
from compress_ops.search.costs.apart import layers_of
from compress_ops.search.costs.cost_table import Costs, measure_costs
from compress_ops.search.costs.forms import FORMS, Form, forms_for
from compress_ops.search.costs.times import Times, Timetable
from tests.helpers import SAMPLES, Table, context, model_of, noise, outputs, proto

TEXT = """g (int64[n] i, float[n,32] x) => (float[n,64] y) {
  [look] e = Gather(table, i) [mix] m = MatMul(e, w) s = Add(m, x) r = Relu(s)
  [wide] v = Gemm(r, u, bias) t = Relu(v) [tiny] z = MatMul(t, a) h = Relu(z) [last] y = MatMul(h, b)
}"""
WEIGHTS = {"table": noise(100, 32), "w": noise(32, 32, scale=0.2), "u": noise(32, 64, scale=0.2), "bias": noise(64)}
SMALL = {"a": noise(64, 2, scale=0.2), "b": noise(2, 64)}


class Untimed(Timetable):
    """Nothing takes any time."""

    def of(self, model: Model, feeds: object, layers: object) -> Times:
        nothing = np.zeros(len(layers))  # type: ignore[arg-type]
        return Times(nothing, nothing)


def made_up() -> tuple[Model, Dataset]:
    feeds = {"i": np.arange(64) % 100, "x": noise(64, 32)}
    return model_of(TEXT, **WEIGHTS, **SMALL), Table(feeds, batch=16)


def sample(name: str) -> tuple[Model, Dataset]:
    stored = np.load(SAMPLES / f"{name.partition('-')[0]}-calibration.npz")
    model = load(SAMPLES / f"{name}.onnx")
    return model, Table({port.name or "": stored[port.name][:32] for port in model.graph.inputs}, batch=8)


def costs_of(model: Model, data: Dataset, forms: list[Form], table: Timetable | None = None) -> Costs:
    model.infer_shapes()
    return measure_costs(model, layers_of(model), forms, context(calibration=data), table or Untimed(CPU, 1))


def written(model: Model, data: Dataset, form: Form, names: list[str]) -> Model:
    """The model in which the step of a form has done its work on some nodes."""
    copy = model.copy()
    ((operation, options),) = form.step(names).items()
    step = step_from(PASSES[operation], options)
    step.operation(copy, context(calibration=data), **step.arguments())
    return copy


def noise_of(found: Model, exact: Model, data: Dataset) -> float:
    """Noise over signal at the output, the mean over batches."""
    pairs = [[outputs(model, **batch.feeds)[0] for model in (found, exact)] for batch in data.batches()]
    return float(np.mean([np.square(a - b).sum() / np.square(b).sum() for a, b in pairs]))


NODES = 180  # bytes for each layer: names are longer in a whole model, and conversions stand once between two layers
SAMPLED = [
    "made-up",
    "recommender",
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("digits-cnn", "digits-mlp", "textlm")),
]


@cache
def found(name: str) -> tuple[Costs, list[tuple[Form, float, int, float, float]]]:
    """Costs, and of each form: its losses added up and what the whole model loses, bytes as told and as they are."""
    model, data = made_up() if name == "made-up" else sample(name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(observed, "_PROBES", 24)  # so that what is left is what first order leaves out, not chance
        costs = costs_of(model, data, forms_for(None))
    return costs, [*_compared(model, data, costs)]


def _compared(model: Model, data: Dataset, costs: Costs) -> Iterator[tuple[Form, float, int, float, float]]:
    for number, form in enumerate(forms_for(None), start=1):
        able = np.isfinite(costs.loss[:, number])
        names = [name for layer, can in zip(costs.layers, able, strict=True) if can for name in layer.nodes]
        if names:
            whole = written(model, data, form, names)
            told = model.stored_bytes() + (costs.bytes[able, number] - costs.bytes[able, 0]).sum()
            loss = costs.loss[able, number].sum()
            yield form, float(told), whole.stored_bytes(), float(loss), noise_of(whole, model, data)


@pytest.mark.parametrize("name", SAMPLED)
def test_losses_of_layers_add_up_to_those_of_whole_models(name: str) -> None:
    """To first order, on 16 samples: within a factor of 4, from a hundred-thousandth to a quarter."""
    _, forms = found(name)
    told, measured = np.array([(loss, of_whole) for *_, loss, of_whole in forms]).T
    assert len(told) >= 8
    assert (np.abs(np.log(told / measured)) < np.log(4)).all(), told / measured
    ranks = np.argsort(np.argsort([told, measured], axis=1), axis=1)
    assert np.corrcoef(*ranks)[0, 1] >= 0.9


@pytest.mark.parametrize("name", SAMPLED)
def test_bytes_of_layers_add_up_to_those_of_whole_models(name: str) -> None:
    """With what layers share it is no less than it will be, without that no more; up to names and nodes of a layer."""
    costs, forms = found(name)
    for form, told, really, *_ in forms:
        number = costs.forms.index(form.name)
        able = np.isfinite(costs.loss[:, number])
        shared = costs.shared[able, number].sum() - costs.shared[able, 0].sum()
        assert told - shared - NODES * able.sum() <= really <= told + NODES * able.sum(), form.name
        assert shared <= max(0.1 * really, 4000), form.name


def test_as_it_is_a_layer_loses_nothing_and_takes_its_weights() -> None:
    costs, _ = found("made-up")
    assert [layer.name for layer in costs.layers] == ["look", "mix", "wide", "tiny", "last"]
    assert costs.forms[0] == "float"
    assert costs.loss[:, 0].tolist() == [0] * 5
    weights = np.array([4 * 100 * 32, 4 * 32 * 32, 4 * (32 * 64 + 64), 4 * 64 * 2, 4 * 2 * 64])
    assert ((weights < costs.bytes[:, 0]) & (costs.bytes[:, 0] < weights + 60)).all()  # its node is told, too


def test_a_layer_has_no_form_that_its_pass_does_not_give_it_or_that_is_no_smaller() -> None:
    """A table has no product to run in integers; of a tiny matrix what decodes it is larger than what is saved."""
    costs, _ = found("made-up")
    able = {name: np.isfinite(costs.loss[:, i]).tolist() for i, name in enumerate(costs.forms)}
    assert able["int8 static"] == [False, True, True, False, False]
    assert able["int8 dynamic"] == able["codebook of 16"] == [True, True, True, False, False]


def test_integers_that_are_larger_are_a_form_since_they_are_fast() -> None:
    """A scale for every two weights."""
    model = model_of("g (float[n,2] x) => (float[n,128] y) { y = MatMul(x, w) }", w=noise(2, 128))
    costs = costs_of(model, Table(noise(64, 2)), forms_for(None))
    able = np.isfinite(costs.loss[0])
    larger = able & (costs.bytes[0] > costs.bytes[0, 0])
    assert able.sum() > larger.sum()
    assert {costs.forms[i] for i in np.flatnonzero(larger)} == {"int8 static", "int8 dynamic"}


def test_a_pass_that_fails_gives_its_form_to_no_layer() -> None:
    model, data = made_up()
    costs = costs_of(model, data, [Form("nowhere", "quantize_weights", {"bits": 8, "skip": ["*"]}), FORMS[2]])
    assert np.isinf(costs.loss[:, 1]).all()
    assert np.isfinite(costs.loss[:, 2]).any()


def test_the_model_stays_as_it_is_and_the_same_costs_the_same() -> None:
    model, data = made_up()
    model.infer_shapes()
    before = proto(model).SerializeToString()
    first, second = (costs_of(model, data, [FORMS[2], FORMS[9]]) for _ in range(2))
    assert proto(model).SerializeToString() == before
    assert (first.loss == second.loss).all()
    assert (first.bytes == second.bytes).all()


def test_times_are_measured_and_kept(tmp_path: Path) -> None:
    model, data = made_up()
    table = Timetable.opened(CPU, 1, tmp_path)
    costs = costs_of(model, data, [FORMS[2]], table)
    assert (costs.seconds[:, 0] > 0).all()
    assert costs.edges[:, 0].tolist() == [0] * 5
    assert (costs.edges[1:3, 1] > 0).all()  # quantizing what is read, decoding what is given
    assert Timetable.opened(CPU, 1, tmp_path).known == table.known


def test_a_model_without_layers_has_a_table_without_rows() -> None:
    model = model_of("g (float[n,6] x) => (float[n,6] y) { y = Relu(x) }")
    costs = costs_of(model, Table(noise(8, 6)), forms_for(None))
    assert costs.loss.shape == costs.seconds.shape == (0, len(costs.forms))
