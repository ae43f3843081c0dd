"""One case of a gradient rule: a line of ONNX text and its tensors, checked against central differences.

The gradient comes from onnxruntime in float32. What it is held against is (L(x + h) - L(x - h)) / 2h of
L = sum of upstream * y, computed in float64 by onnx's reference evaluator, an implementation of its own.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import onnx
import onnx.helper
import onnx.parser
from onnx.reference import ReferenceEvaluator

from compress_ops.distill.autodiff import build_gradients
from compress_ops.model import Model, make_uniform
from compress_ops.runtime import open_session

Array = np.ndarray[Any, Any]
STEP = 1e-4
ROUNDING = 64 * float(np.finfo(np.float32).eps)  # a few dozen roundings, of a sum's terms or along a chain of nodes
TRUNCATION = 100 * STEP**2  # h^2 f''' / 6 for third derivatives up to some hundreds
FIXED = ("w", "b", "s")  # tensors that stay weights of known size where the others are inputs of free size


class Case:
    """``line`` computes y. Arrays of floats are differentiated, others are constants; a shape makes an array.

    ``free`` False: the rule needs sizes, so the case is not repeated with inputs of unknown sizes. ``float64`` False:
    the reference evaluator does not do the operator (well); onnxruntime's own float32 forward, with a larger step.
    """

    def __init__(
        self, line: str, *, opset: int = 18, free: bool = True, reference: bool = True, **tensors: Any
    ) -> None:
        self.line, self.opset, self.free, self.reference = line, opset, free, reference
        rng = np.random.default_rng(zlib.crc32(line.encode()))
        self.tensors = {name: spaced(rng, given) if isinstance(given, tuple) else given for name, given in tensors.items()}
        self.rng = rng

    def __str__(self) -> str:
        return self.line

    @property
    def operators(self) -> set[str]:
        return {node.op_type for node in self.graph().node}

    @property
    def floats(self) -> list[str]:
        return [name for name, array in self.tensors.items() if np.asarray(array).dtype.kind == "f"]

    def graph(self) -> onnx.GraphProto:
        nodes = "".join(f"{part.strip()}\n" for part in self.line.split(";"))
        return onnx.parser.parse_graph(f"g () => () {{ {nodes} }}")

    def proto(self, inputs: list[str]) -> onnx.ModelProto:
        """The model with some tensors as inputs of free sizes and the others as initializers."""
        graph = self.graph()
        for name, given in self.tensors.items():
            array = np.asarray(given)
            array = array.astype(np.float32) if array.dtype.kind == "f" else array
            if name in inputs:
                kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
                graph.input.append(onnx.helper.make_tensor_value_info(name, kind, [None] * array.ndim))
            else:
                graph.initializer.append(onnx.numpy_helper.from_array(array, name))
        graph.output.append(onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None))
        return onnx.helper.make_model(graph, ir_version=10, opset_imports=[onnx.helper.make_opsetid("", self.opset)])

    def model(self, inputs: list[str]) -> Model:
        import onnx_ir as ir

        model = Model(ir.from_proto(self.proto(inputs)))
        make_uniform(model)
        return model

    def check(self, free: bool) -> None:
        inputs = [name for name in self.floats if free and name not in FIXED]
        model = self.model(inputs)
        if not inputs:
            model.infer_shapes()
        weights = [name for name in self.floats if name not in inputs]
        built = build_gradients(model, of=["y"], parameters=weights, inputs=inputs)
        feeds = {name: np.asarray(self.tensors[name], np.float32) for name in self.floats}
        forward = self.forward()
        y = forward({name: np.asarray(self.tensors[name], np.float64) for name in self.floats})
        upstream = np.random.default_rng(1).uniform(0.5, 1.5, y.shape) * np.where(np.arange(y.size) % 3, 1, -1).reshape(y.shape)
        import onnx_ir as ir

        session = open_session(ir.to_proto(built.model.ir).SerializeToString())
        known = {port.name for port in session.inputs}
        given = {name: array for name, array in feeds.items() if name in known}
        found = session.run({**given, built.upstream["y"]: upstream.astype(np.float32)})
        np.testing.assert_allclose(found["y"], y, atol=ROUNDING * max(1, abs(y).max()))
        for name in self.floats:
            expected = self.differences(forward, name, upstream)
            scale = max(1.0, float(abs(expected).max(initial=0)))
            tolerance = (ROUNDING + TRUNCATION) * scale if self.reference else 3e-3 * scale
            got = found[built.gradients[name]]
            assert got.shape == expected.shape, f"gradient of {name}: {got.shape} is not {expected.shape}"
            np.testing.assert_allclose(got, expected, atol=tolerance, rtol=0, err_msg=f"gradient of {name}")

    def forward(self) -> Any:
        inputs = self.floats
        if self.reference:
            evaluator = ReferenceEvaluator(self.proto(inputs))
            return lambda feeds: np.asarray(evaluator.run(["y"], feeds)[0], np.float64)
        session = open_session(self.proto(inputs).SerializeToString())
        return lambda feeds: session.run({n: a.astype(np.float32) for n, a in feeds.items()})["y"].astype(np.float64)

    def differences(self, forward: Any, name: str, upstream: Array) -> Array:
        step = STEP if self.reference else 1e-2
        feeds = {each: np.asarray(self.tensors[each], np.float64) for each in self.floats}
        result = np.zeros(feeds[name].shape)
        for index in np.ndindex(result.shape):
            values = []
            for sign in (1, -1):
                moved = feeds[name].copy()
                moved[index] += sign * step
                values.append(float((forward({**feeds, name: moved}) * upstream).sum()))
            result[index] = (values[0] - values[1]) / (2 * step)
        return result


def spaced(rng: np.random.Generator, shape: tuple[int, ...], low: float = -1.9, high: float = 2.1) -> Array:
    """Shuffled, evenly spaced: no two are equal and none is 0, so that no step crosses a kink. Exact in float32."""
    count = int(np.prod(shape))
    values = np.linspace(low, high, count + 1)[:-1] + (high - low) / (3 * count + 1)
    return rng.permutation(values).astype(np.float32).astype(np.float64).reshape(shape)


def between(low: float, high: float, *shape: int) -> Array:
    """Evenly spaced numbers in an open interval, shuffled."""
    return spaced(np.random.default_rng(7), shape, low, high)


def whole(*values: Any) -> Array:
    """Constant integers."""
    return np.array(values, np.int64)
