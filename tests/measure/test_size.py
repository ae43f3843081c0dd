"""Sizes of files, weights and what would travel."""

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
import zstandard

from compress_ops.measure.size import measure_size

ADD = """<ir_version: 8, opset_import: ["": 17]>
    g (float[256] x) => (float[256] y) { y = Add(x, w) }"""


def _model() -> onnx.ModelProto:
    model = onnx.parser.parse_model(ADD)
    noise = np.random.default_rng(0).standard_normal(256).astype(np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(noise, "w"))
    return model


def test_one_file(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(_model(), path)
    size = measure_size(path)
    assert size.file == size.counted == path.stat().st_size
    assert size.weights == 256 * 4
    assert size.zstd == pytest.approx(len(zstandard.compress(path.read_bytes(), 3)), abs=16)  # frame headers


def test_external_data_counts(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(_model(), path, save_as_external_data=True, location="m.data", size_threshold=0)
    size = measure_size(path)
    assert size.file == path.stat().st_size + (tmp_path / "m.data").stat().st_size
    assert size.zstd > 256 * 3  # noise hardly shrinks: the external file is in it


def test_a_generated_constant_counts_as_if_stored(tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["": 17]>
        g (float[256] x) => (float[256] y) <int64[1] shape = {256}> { w = ConstantOfShape(shape)  y = Add(x, w) }"""
    path = tmp_path / "m.onnx"
    onnx.save(onnx.parser.parse_model(text), path)
    size = measure_size(path)
    assert size.counted == size.file + 1024
    assert size.weights == 1024 + 8
