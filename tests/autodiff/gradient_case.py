"""One case of a gradient rule: a line of ONNX text and its tensors, checked against central differences.

The gradient comes from onnxruntime in float32. What it is held against is (L(x + h) - L(x - h)) / 2h of
L = sum of upstream * y, in float64: by onnx's reference evaluator, an implementation of its own, or, where that one
does not compute the operator in float64, by a function of NumPy. Where y is linear in each tensor there is no
truncation error, h may be large, and onnxruntime's float32 forward does.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import onnx.helper
import onnx.parser
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from compress_ops.autodiff import GradientModel, build_gradients
from compress_ops.model import Model, make_uniform
from compress_ops.runtime import open_session

Array = np.ndarray[Any, Any]
Arrays = Mapping[str, Array]
STEP, LINEAR_STEP = 1e-4, 0.25
ROUNDING = 64 * float(np.finfo(np.float32).eps)  # a few dozen roundings, of a sum's terms or along a chain of nodes
TRUNCATION = 100 * STEP**2  # h^2 f''' / 6, for third derivatives up to some hundreds
FIXED = ("w", "b", "s")  # tensors that stay weights of known size where the others are inputs of unknown size


class Case:
    """``line`` computes y. Floats are differentiated, integers are constants; a shape stands for spaced numbers.

    ``free`` False: the rule needs sizes, so the case is not repeated with inputs of unknown sizes. ``forward`` computes
    y of the floats, in their order; ``linear``: see above.
    """

    def __init__(
        self,
        line: str,
        *,
        opset: int = 18,
        free: bool = True,
        linear: bool = False,
        forward: Callable[..., Array] | None = None,
        **tensors: Any,
    ) -> None:
        self.line, self.opset, self.free, self.linear, self.forward = line, opset, free, linear, forward
        rng = np.random.default_rng(zlib.crc32(line.encode()))
        self.tensors = {
            name: spaced(rng, given) if isinstance(given, tuple) else np.asarray(given)
            for name, given in tensors.items()
        }
        self.floats = {name: array for name, array in self.tensors.items() if array.dtype.kind == "f"}

    def __str__(self) -> str:
        return f"{self.line} {list(map(list, (array.shape for array in self.tensors.values())))}"

    @property
    def operators(self) -> set[str]:
        return {node.op_type for node in self._nodes()}

    def check(self, free: bool) -> None:
        """Values and gradients; ``free``: with inputs of unknown size."""
        inputs = [name for name in self.floats if free and name not in FIXED]
        weights = [name for name in self.floats if name not in inputs]
        built = build_gradients(self._model(inputs), of=["y"], parameters=weights, inputs=inputs)
        y = self._compute(self.floats)
        upstream = spaced(np.random.default_rng(1), y.shape)
        found = self._run(built, upstream)
        np.testing.assert_allclose(found["y"], y, rtol=0, atol=ROUNDING * max(1, abs(y).max()))
        for name in self.floats:
            self._compare(name, found[built.gradients[name]], self._differences(name, upstream))

    def _compare(self, name: str, got: Array, expected: Array) -> None:
        assert got.shape == expected.shape, f"gradient of {name}: {got.shape} is not {expected.shape}"
        tolerance = (ROUNDING + TRUNCATION) * max(1.0, float(abs(expected).max(initial=0)))
        np.testing.assert_allclose(got, expected, atol=tolerance, rtol=0, err_msg=f"gradient of {name}")

    def _run(self, built: GradientModel, upstream: Array) -> Arrays:
        session = open_session(ir.to_proto(built.model.ir).SerializeToString())
        known = {port.name for port in session.inputs}
        feeds = {name: array.astype(np.float32) for name, array in self.floats.items() if name in known}
        return session.run({**feeds, built.upstream["y"]: np.asarray(upstream, np.float32)})

    def _differences(self, name: str, upstream: Array) -> Array:
        step = LINEAR_STEP if self.linear else STEP
        result = np.zeros(self.floats[name].shape)
        for index in np.ndindex(result.shape):
            ahead, behind = (self._moved(name, index, sign * step) for sign in (1, -1))
            result[index] = ((ahead - behind) * upstream).sum() / (2 * step)
        return result

    def _moved(self, name: str, index: tuple[int, ...], by: float) -> Array:
        moved = self.floats[name].copy()
        moved[index] += by
        return self._compute({**self.floats, name: moved})

    def _compute(self, tensors: Arrays) -> Array:
        if self.forward is not None:
            return np.asarray(self.forward(*tensors.values()))
        if not hasattr(self, "_evaluator"):
            self._evaluator = self._float32 if self.linear else ReferenceEvaluator(self._proto([*self.floats]))
        return np.asarray(self._evaluator.run(["y"], dict(tensors))[0], np.float64)

    @property
    def _float32(self) -> Any:
        session = open_session(self._proto([*self.floats]).SerializeToString())

        class Runner:
            def run(self, names: list[str], feeds: Arrays) -> list[Array]:
                return [session.run({name: np.asarray(array, np.float32) for name, array in feeds.items()})[names[0]]]

        return Runner()

    def _nodes(self) -> Any:
        nodes = "".join(f"{part.strip()}\n" for part in self.line.split(";"))
        return onnx.parser.parse_graph(f"g () => () {{ {nodes} }}").node

    def _proto(self, inputs: list[str]) -> onnx.ModelProto:
        """The model with some tensors as inputs of unknown sizes and the others as initializers."""
        graph = onnx.helper.make_graph(self._nodes(), "g", [], [])
        for name, array in self.tensors.items():
            if name in inputs:
                port = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None] * array.ndim)
                graph.input.append(port)
            else:
                array = array.astype(np.float32) if name in self.floats else array
                graph.initializer.append(onnx.numpy_helper.from_array(array, name))
        graph.output.append(onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None))
        return onnx.helper.make_model(graph, ir_version=10, opset_imports=[onnx.helper.make_opsetid("", self.opset)])

    def _model(self, inputs: list[str]) -> Model:
        model = Model(ir.from_proto(self._proto(inputs)))
        make_uniform(model)
        return model


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
