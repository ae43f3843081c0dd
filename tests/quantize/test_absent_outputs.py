"""Optional outputs that a node does not have ("") are nothing to look at."""

import numpy as np
import onnx
import pytest
from onnx import helper

from compress_ops.catalogue import PASSES
from tests.helpers import Given, context, model_of, noise, outputs, proto

X = noise(7, 3, 64)


def final_state_only() -> onnx.ModelProto:
    """Dropout without its mask, an LSTM of which only the last state is read."""
    weights = {
        "W": noise(1, 256, 64, scale=0.12),
        "R": noise(1, 256, 64, seed=1, scale=0.12),
        "V": noise(64, 64, scale=0.2),
        "first": np.array([0]),
        "share": np.float32(0.5),
    }
    nodes = [
        helper.make_node("Dropout", ["x", "share"], ["d", ""]),
        helper.make_node("LSTM", ["d", "W", "R"], ["", "h", ""], hidden_size=64),
        helper.make_node("Squeeze", ["h", "first"], ["s"]),
        helper.make_node("MatMul", ["s", "V"], ["y"]),
    ]
    stored = [onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()]
    ports = [helper.make_tensor_value_info(*port) for port in (("x", 1, ["T", "N", 64]), ("y", 1, ["N", 64]))]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("simplify", {}),
        ("to_float16", {}),
        ("quantize_static", {}),
        ("quantize_dynamic", {}),
        ("quantize_weights", {"bits": 8}),
        ("prune_channels", {"ratio": 0.25, "by": "flops"}),
        ("prune_channels", {"ratio": 0.25, "score": "activation_weight"}),
        ("upgrade_opset", {"to": 21}),
    ],
)
def test_passes_leave_them_alone(name, options):
    plain = final_state_only()
    model = model_of(plain)
    PASSES[name](model, context(calibration=Given({"x": X})), **options)
    layer = next(node for node in proto(model).graph.node if "LSTM" in node.op_type)
    assert layer.output[0] == ""
    assert "" in layer.output[2:] or len(layer.output) == 2
    wanted, got = outputs(plain, x=X)[0], outputs(model, x=X)[0]
    assert got.shape == wanted.shape
    if name != "prune_channels":
        assert np.linalg.norm(got - wanted) < 1 / 32 * np.linalg.norm(wanted), "8 bits at worst"
