"""What a model is made of: FLOPs against the sums done by hand, and bytes by reader."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

from compress_ops.errors import DataError, UsageError
from compress_ops.measure.inspection import Inspection, inspect_model
from compress_ops.report.inspection_page import inspection_page


def _inspect(folder: Path, graph: str, dims: dict[str, int] | None = None, **weights: np.ndarray) -> Inspection:
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]>\n{graph}')
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())
    path = folder / "m.onnx"
    onnx.save(model, path)
    return inspect_model(path, dims)


def _zeros(*shape: int, dtype: str = "float32") -> np.ndarray:
    return np.zeros(shape, dtype)


CASES = {
    # 8 output channels at 3x3 places, each a sum over 4 / 2 channels of a 3x3 kernel
    "Conv": ("y = Conv<group=2>(x, w)", "float[1,4,5,5]", (8, 2, 3, 3), 8 * 9 * (2 * 9)),
    # each of 4 x 5 x 5 inputs goes to 8 channels of a 3x3 kernel
    "ConvTranspose": ("y = ConvTranspose(x, w)", "float[1,4,5,5]", (4, 8, 3, 3), 4 * 25 * (8 * 9)),
    "Gemm": ("y = Gemm<transA=1, transB=1>(x, w)", "float[6,2]", (5, 6), 2 * 5 * 6),
    "MatMul": ("y = MatMul(x, w)", "float[3,7,6]", (6, 5), 3 * 7 * 5 * 6),
}


@pytest.mark.parametrize("operator", CASES)
def test_flops_are_twice_the_multiply_accumulates(operator: str, tmp_path: Path) -> None:
    node, x, weight, accumulates = CASES[operator]
    found = _inspect(tmp_path, f"m ({x} x) => (float y) {{ {node} }}", w=_zeros(*weight))
    assert found.flops == 2 * accumulates
    assert found.uncounted == 0


def test_integer_operators_count_as_their_float_forms(tmp_path: Path) -> None:
    graph = "m (uint8[3,6] x) => (int32 y) { y = MatMulInteger(x, w) }"
    assert _inspect(tmp_path, graph, w=_zeros(6, 5, dtype="int8")).flops == 2 * 3 * 5 * 6


FREE = "m (float[batch,time,6] x) => (float[batch,time,5] y) { y = MatMul(x, w) }"


def test_a_free_batch_is_1_and_other_sizes_must_be_given(tmp_path: Path) -> None:
    found = _inspect(tmp_path, FREE, w=_zeros(6, 5))
    assert (found.flops, found.uncounted, found.assumed, found.free) == (0, 1, {"batch": 1}, ["time"])
    assert "FLOPs not known" in inspection_page(found, []).headline
    found = _inspect(tmp_path, FREE, {"time": 10}, w=_zeros(6, 5))
    assert (found.flops, found.uncounted, found.free) == (2 * 10 * 5 * 6, 0, [])


@pytest.mark.parametrize(
    "graph",
    [
        "agraph (float[-3,4] x) => (float[N,2] y) { y = MatMul(x, w) }",
        "agraph (float[4] x) => (float[N,2] y) { y = Gemm(x, w) }",
        "agraph (float[3,4] x) => (float[-3,2] y) { y = MatMul(x, w) }",
    ],
)
def test_flops_are_never_negative(graph: str, tmp_path: Path) -> None:
    found = _inspect(tmp_path, graph, w=_zeros(4, 2))
    assert found.flops >= 0


UNNAMED = "m (float[N,3,H,W] x) => (float y) { y = Conv(x, w) }"


def test_whole_shapes_size_dimensions_without_a_name(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]>\n{UNNAMED}')
    for dim in model.graph.input[0].type.tensor_type.shape.dim:
        dim.ClearField("dim_param")
    model.graph.initializer.append(numpy_helper.from_array(_zeros(8, 3, 3, 3), "w"))
    onnx.save(model, tmp_path / "m.onnx")
    unknown = inspect_model(tmp_path / "m.onnx")
    assert (unknown.flops, unknown.uncounted) == (0, 1)
    notes = [note for table in inspection_page(unknown, []).tables for note in table.notes]
    assert "Shapes of 1 such nodes are not known: --shape x=1,3,N,N" in notes
    found = inspect_model(tmp_path / "m.onnx", shapes={"x": [2, 3, 10, 12]})
    assert (found.flops, found.uncounted) == (2 * (2 * 8 * 8 * 10) * 27, 0)
    with pytest.raises(DataError, match="does not fit"):
        inspect_model(tmp_path / "m.onnx", shapes={"x": [2, 4, 10, 12]})


def test_a_size_that_is_not_free(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no input has a dimension 'tim'; did you mean 'time'"):
        _inspect(tmp_path, FREE, {"tim": 10}, w=_zeros(6, 5))


def test_bytes_by_type_and_by_reader(tmp_path: Path) -> None:
    graph = """m (int64[n] i, float[n,8] x) => (float y, float z) {
        rows = Gather(table, i)
        turned = Transpose<perm=[1,0]>(rows)
        y = MatMul(x, table2)
        w = DequantizeLinear(codes, scale)
        z = MatMul(y, w)
    }"""
    weights = {"table": _zeros(10, 8), "table2": _zeros(8, 8), "codes": _zeros(8, 4, dtype="int8")}
    found = _inspect(tmp_path, graph, scale=np.float32(1), **weights)
    assert {name: facts.bytes for name, facts in found.precision.items()} == {"float": 320 + 256 + 4, "int8": 32}
    assert found.readers == {"Gather": 320, "MatMul": 256 + 32 + 4}
    assert found.parameters == 80 + 64 + 32 + 1


def test_one_weight_that_two_operators_read(tmp_path: Path) -> None:
    graph = "m (int64[n] i, float[1,10] x) => (float y, float z) { y = Gather(w, i)  z = MatMul(x, w) }"
    assert _inspect(tmp_path, graph, w=_zeros(10, 4)).readers == {"Gather and MatMul": 160}


def test_the_page(tmp_path: Path) -> None:
    found = _inspect(tmp_path, FREE, {"time": 10}, w=_zeros(6, 5))
    page = inspection_page(found, ["prune was not tried: why"], nodes=True)
    tables = {table.title: table for table in page.tables}
    assert page.headline.startswith("m.onnx: 30 parameters, ")
    assert page.headline.endswith(", 600 FLOP per inference, 1 node.")
    assert ["MatMul", "1", "100.0 %"] in tables["Operators"].rows
    assert tables["Nodes"].rows[0][1:] == ["MatMul", "120 B", "600"]
    assert tables["What could be compressed, with each pass's defaults"].notes == ["prune was not tried: why"]
