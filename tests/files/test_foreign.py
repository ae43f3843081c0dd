"""Files that are no ONNX model are told for what they are, by their content first."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest

from compress_ops.errors import DataError, ModelError, RecipeError
from compress_ops.files.not_onnx import ONNX, kind_of_file
from compress_ops.model import load
from compress_ops.recipe import load_recipe
from tests.helpers import proto_of


def _zip(**members: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def _npz() -> bytes:
    file = io.BytesIO()
    np.savez(file, x=np.ones(3))
    return file.getvalue()


def _tar() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("m.onnx"))
    return file.getvalue()


_HEADER = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()

CONTENTS = {
    "PyTorch": (_zip(**{"m/data.pkl": "", "m/data/0": "0"}), "torch.onnx.export"),
    "PyTorch, old": (pickle.dumps({"w": 1}, 2), "torch.onnx.export"),
    "safetensors": (struct.pack("<Q", len(_HEADER)) + _HEADER + bytes(8), "optimum-cli"),
    "Keras": (_zip(**{"config.json": "{}", "metadata.json": "{}", "model.weights.h5": ""}), 'format="onnx"'),
    "Keras, old": (b"\x89HDF\r\n\x1a\n" + bytes(50), 'format="onnx"'),
    "TensorFlow Lite": (b"\x1c\0\0\0TFL3" + bytes(50), "tf2onnx.convert --tflite"),
    "GGUF": (b"GGUF\3\0\0\0" + bytes(50), "no way back"),
    "OpenVINO": (b'<?xml version="1.0"?>\n<net name="m" version="11"></net>', "no way back"),
    "Git LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git lfs pull"),
    "gzip": (gzip.compress(b"model"), "gunzip"),
    "an archive": (_tar(), "unpack"),
    "an archive, zip": (_zip(**{"m.onnx": "model"}), "unpack"),
    "a web page": (b"\n<!-- 1 -->\n<!DOCTYPE html>\n<html><title>404</title></html>", "download the file itself"),
    "data": (_npz(), "--data"),
    "data, one array": (b"\x93NUMPY\1\0", "--data"),
    "a recipe": (b"# mine\nversion: 1\npasses: [simplify]\n", "onnxpress run RECIPE MODEL"),
    "a report": (b'{\n  "onnxpress": "0.1.0", "recipe": {}}', "replay"),
    "onnxruntime's own format": (b"\x18\0\0\0ORTM" + bytes(50), "take the .onnx file"),
    "empty": (b"", "anew"),
}


@pytest.mark.parametrize("kind", CONTENTS)
def test_by_content_under_a_wrong_name(kind: str, tmp_path: Path) -> None:
    content, way = CONTENTS[kind]
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        load(path)
    if kind != "PyTorch, old":  # under this name a pickle could be anything
        assert "m.onnx is not an ONNX file: it is " in caught.value.message
        assert kind.partition(",")[0] in caught.value.message
    assert way in caught.value.hint


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("m.pth", "a PyTorch file"),
        ("frozen.pb", "perhaps a frozen TensorFlow graph"),
        ("m.engine", "a TensorRT engine"),
        ("m.tflite", "a TensorFlow Lite model"),
    ],
)
def test_by_name_where_the_content_says_nothing(name: str, what: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(b"\xff" * 100)
    with pytest.raises(ModelError, match=f"is not an ONNX file: it is {what}"):
        load(path)


def test_folders(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is a folder") as caught:
        load(tmp_path)
    assert caught.value.hint == "name the .onnx file in it"
    (tmp_path / "saved_model.pb").write_bytes(b"x")
    with pytest.raises(ModelError, match="is a TensorFlow SavedModel") as caught:
        load(tmp_path)
    assert f"--saved-model {tmp_path} " in caught.value.hint
    (tmp_path / "b.onnx").write_bytes(b"x")
    with pytest.raises(ModelError, match="is a folder") as caught:
        load(tmp_path)
    assert caught.value.hint == "name the .onnx file in it: b.onnx"


def test_what_is_an_onnx_model_is_read_under_any_name(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    onnx.save(proto_of("m (float[2] x) => (float[2] y) { y = Relu(x) }"), path)
    assert [node.op_type for node in load(path).nodes()] == ["Relu"]
    assert kind_of_file(tmp_path / "absent.onnx") is None


def test_a_model_or_data_in_the_place_of_the_recipe(tmp_path: Path) -> None:
    model, data = tmp_path / "m.onnx", tmp_path / "d.npz"
    onnx.save(proto_of("m (float[2] x) => (float[2] y) { y = Relu(x) }"), model)
    data.write_bytes(_npz())
    assert kind_of_file(model) == ONNX
    for path, what in ((model, "an ONNX model"), (data, "data, not a model")):
        with pytest.raises(RecipeError, match=f"the recipe is {what}") as caught:
            load_recipe(path)
        assert "onnxpress run RECIPE MODEL" in caught.value.hint


def test_a_model_in_the_place_of_data(tmp_path: Path) -> None:
    from compress_ops.data import DataSettings, open_data

    onnx.save(proto_of("m (float[2] x) => (float[2] y) { y = Relu(x) }"), tmp_path / "m.onnx")
    with pytest.raises(DataError, match="it is an ONNX model"):
        open_data("m.onnx", [], DataSettings(base=tmp_path))
