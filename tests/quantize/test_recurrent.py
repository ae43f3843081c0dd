"""LSTM, GRU and RNN: two weights each, in 8 bits or few."""

import numpy as np
import onnx
import pytest
from onnx import helper

from compress_ops.catalogue import PASSES
from tests.helpers import Given, context, model_of, noise, op_types, outputs

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
STEPS, BATCH, INPUTS, HIDDEN = 7, 3, 48, 64
X = noise(STEPS, BATCH, INPUTS)


def recurrent(kind: str, direction: str = "forward", extra: tuple[str, ...] = (), opset: int = 17, **attributes):
    """One recurrent layer whose outputs are the model's; ``extra`` names optional inputs that are stored too."""
    directions = 2 if direction == "bidirectional" else 1
    rows, states = GATES[kind] * HIDDEN, 2 if kind == "LSTM" else 1
    scale = 1 / np.sqrt(HIDDEN)
    weights = {
        "W": noise(directions, rows, INPUTS, scale=scale),
        "R": noise(directions, rows, HIDDEN, seed=1, scale=scale),
        "B": noise(directions, 2 * rows, seed=2, scale=scale),
        "lens": np.array([7, 4, 2], np.int32),
        "h0": noise(directions, BATCH, HIDDEN, seed=3),
        "c0": noise(directions, BATCH, HIDDEN, seed=4),
        "P": noise(directions, 3 * HIDDEN, seed=5, scale=scale),
    }
    places = ("B", "lens", "h0", "c0", "P") if kind == "LSTM" else ("B", "lens", "h0")
    inputs = ["x", "W", "R", *(name if name in extra else "" for name in places)]
    names = ["y", "h", "c"][: states + 1]
    node = helper.make_node(kind, inputs, names, direction=direction, hidden_size=HIDDEN, **attributes)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", 1, ["T", "N", INPUTS])],
        [helper.make_tensor_value_info(name, 1, None) for name in names],
        [onnx.numpy_helper.from_array(a, name) for name, a in weights.items() if name in inputs],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def relative_error(plain: onnx.ModelProto, model) -> float:
    pairs = zip(outputs(plain, x=X), outputs(model, x=X), strict=True)
    return max(float(np.linalg.norm(a - b) / np.linalg.norm(a)) for a, b in pairs)


BITS8 = 1 / 64  # a step is 1/127 of the largest number, which is a few standard deviations; errors do not build up


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("extra", [(), ("B",), ("lens",), ("h0", "c0"), ("B", "P")])
@pytest.mark.parametrize("per_channel", [True, False])
def test_an_lstm_becomes_onnxruntimes_own(direction, extra, per_channel):
    plain = recurrent("LSTM", direction, extra)
    model = model_of(plain)
    before = model.stored_bytes()
    change = PASSES["quantize_dynamic"](model, context(), per_channel=per_channel)
    assert op_types(model) == {"DynamicQuantizeLSTM": 1}
    assert list(change.touched) == ["LSTM_y"]
    assert model.stored_bytes() < 0.4 * before
    assert relative_error(plain, model) < (2 if per_channel else 3) * BITS8, "weights, inputs and states are rounded"


@pytest.mark.parametrize("kind", ["GRU", "RNN"])
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_others_decode_their_weights_at_load(kind, direction):
    plain = recurrent(kind, direction, ("B",))
    model = model_of(plain)
    before = model.stored_bytes()
    PASSES["quantize_dynamic"](model, context())
    assert op_types(model) == {kind: 1, "Cast": 2, "Mul": 2}
    assert model.stored_bytes() < 0.4 * before
    assert relative_error(plain, model) < BITS8
    PASSES["simplify"](model, context())
    assert model.stored_bytes() < 0.4 * before, "simplify does not undo it"


@pytest.mark.parametrize("kind", GATES)
@pytest.mark.parametrize("storage", ["MatMulNBits", "decoded", "qdq"])
@pytest.mark.parametrize(("bits", "share", "error"), [(8, 0.4, BITS8), (4, 0.3, 16 * BITS8)])
def test_weights_alone(kind, storage, bits, share, error):
    plain = recurrent(kind, "bidirectional", opset=21)
    model = model_of(plain)
    before = model.stored_bytes()
    PASSES["quantize_weights"](model, context(), bits=bits, storage=storage)
    assert model.stored_bytes() < share * before
    assert relative_error(plain, model) < error


def test_the_weight_of_the_inputs_is_rounded_for_the_data():
    """GPTQ knows what W multiplies; R multiplies the state, which nobody sees."""
    model = model_of(recurrent("LSTM"))
    change = PASSES["quantize_weights"](model, context(calibration=Given({"x": X})), bits=4)
    assert set(change.notes["sqnr_db"]) == {"W", "R"}
    assert change.notes["sqnr_db"]["W"] < change.notes["sqnr_db"]["R"], "GPTQ fits outputs, not weights"


def test_layers_that_share_weights_keep_sharing_them():
    text = f"""g (float[T,N,{HIDDEN}] x) => (float[T,D,N,{HIDDEN}] y) {{ a = LSTM<hidden_size={HIDDEN}>(x, W, R)
        b = Squeeze(a, ax) y = LSTM<hidden_size={HIDDEN}>(b, W, R) }}"""
    rows = 4 * HIDDEN
    model = model_of(text, W=noise(1, rows, HIDDEN), R=noise(1, rows, HIDDEN, seed=1), ax=np.array([1]))
    PASSES["quantize_dynamic"](model, context())
    assert op_types(model)["DynamicQuantizeLSTM"] == 2
    assert sorted(v.name for v in model.weights() if v.name.endswith("_int8")) == ["R_int8", "W_int8"]


def test_what_onnxruntime_does_not_run_is_declined():
    model = model_of(recurrent("LSTM", layout=1))
    change = PASSES["quantize_dynamic"](model, context())
    assert [declined.reason for declined in change.declined] == ["LSTM: layout 1 is not run by onnxruntime"]


def test_static_quantization_says_that_it_passes_them_over():
    change = PASSES["quantize_static"](model_of(recurrent("GRU")), context(calibration=Given({"x": X})))
    assert [declined.name for declined in change.declined] == ["GRU_y"]
    assert "quantize_dynamic" in change.declined[0].reason


@pytest.mark.parametrize("kind", GATES)
def test_single_weights_become_zero(kind):
    model = model_of(recurrent(kind))
    PASSES["prune_weights"](model, context(), ratio=0.75, scope="output")
    for value in model.weights():
        zeros = np.count_nonzero(value.const_value.numpy() == 0, axis=-1)
        np.testing.assert_array_equal(zeros, np.full(zeros.shape, 0.75 * value.const_value.shape[-1]))
