"""What a file is that is no ONNX model: told by its first bytes, else by its name, with the way to ONNX."""

from __future__ import annotations

import re
import zipfile
from contextlib import suppress
from pathlib import Path
from shlex import quote
from typing import NamedTuple

_HEAD = 4096  # bytes that tell


class Kind(NamedTuple):
    """``what`` follows "it is"; ``way`` is what to do instead, with FILE or FOLDER for its name."""

    what: str
    way: str

    def way_for(self, path: Path) -> str:
        """What to do with this file or folder."""
        return re.sub(r"\b(FILE|FOLDER)\b", lambda _: quote(str(path)), self.way)


_OF_TORCH = 'load it into its model, then: torch.onnx.export(model, (example,), "model.onnx", dynamo=True)'
_OF_HUB = "export the checkpoint that it belongs to: optimum-cli export onnx --model CHECKPOINT OUT"
TORCH = Kind("a PyTorch file", _OF_TORCH)
SAFETENSORS = Kind("a safetensors file, which holds weights and no graph", f"{_OF_HUB}; or {_OF_TORCH}")
KERAS = Kind("a Keras model", 'keras.models.load_model(FILE).export("model.onnx", format="onnx")')
TFLITE = Kind("a TensorFlow Lite model", "python -m tf2onnx.convert --tflite FILE --output model.onnx")
SAVED_MODEL = Kind("a TensorFlow SavedModel", "python -m tf2onnx.convert --saved-model FOLDER --output model.onnx")
FROZEN = Kind(
    "perhaps a frozen TensorFlow graph",
    "python -m tf2onnx.convert --graphdef FILE --inputs X:0 --outputs Y:0 --output model.onnx",
)
GGUF = Kind("a GGUF file", f"there is no way back from it; {_OF_HUB}")
OPENVINO = Kind("an OpenVINO model", "there is no way back from it; take the ONNX file that it was made from")
ORT = Kind("a model in onnxruntime's own format", "take the .onnx file that it was made from")
ENGINE = Kind("a TensorRT engine", "take the .onnx file that it was made from")
COREML = Kind("a Core ML model", "take the ONNX file, or the training framework's model, that it was made from")
LFS = Kind("a Git LFS pointer, not the file that it stands for", "fetch the file: git lfs pull")
PAGE = Kind("a web page, not the file that it links to", "download the file itself (on a page of code: Raw)")
GZIP = Kind("compressed with gzip", "unpack it: gunzip FILE, or tar -xzf FILE")
ARCHIVE = Kind("an archive", "unpack it and name the .onnx file in it")
DATA = Kind("data, not a model", "give it with --data (data.calibration in a recipe), after the model")
PICKLE = Kind("a Python pickle", _OF_TORCH)
RECIPE = Kind("a recipe, not a model", "the recipe comes first: onnxpress run RECIPE MODEL -o OUT")
REPORT = Kind("a report, not a model", "replay it: onnxpress run REPORT -o OUT")
ONNX = Kind("an ONNX model", "")
EMPTY = Kind("empty", "the download or the export did not end well: make it anew")

_SIGNATURES: tuple[tuple[int, bytes, Kind], ...] = (
    (0, b"version https://git-lfs", LFS),
    (0, b"\x1f\x8b", GZIP),
    (0, b"\x93NUMPY", DATA),
    (0, b"\x89HDF\r\n", KERAS),
    (0, b"GGUF", GGUF),
    (4, b"TFL3", TFLITE),
    (4, b"ORTM", ORT),
    (8, b'{"', SAFETENSORS),
    (0, b"BZh", ARCHIVE),
    (0, b"\xfd7zXZ", ARCHIVE),
    (0, b"7z\xbc\xaf", ARCHIVE),
    (257, b"ustar", ARCHIVE),
)
_TEXTS: tuple[tuple[str, Kind], ...] = (
    (r"\A\s*(<!--.*?-->\s*)*<(!doctype html|html|head)\b", PAGE),
    (r"\A\s*(<\?xml[^>]*>\s*)?<net\b", OPENVINO),
    (r'\A\s*\{\s*"onnxpress":', REPORT),
    (r"^(passes|version):", RECIPE),
)
_ENDINGS = {
    **dict.fromkeys((".pt", ".pth", ".ckpt", ".bin"), TORCH),
    ".safetensors": SAFETENSORS,
    ".tflite": TFLITE,
    **dict.fromkeys((".h5", ".hdf5", ".keras"), KERAS),
    ".pb": FROZEN,
    ".gguf": GGUF,
    ".ort": ORT,
    **dict.fromkeys((".engine", ".plan", ".trt"), ENGINE),
    **dict.fromkeys((".mlmodel", ".mlpackage"), COREML),
    **dict.fromkeys((".npz", ".npy"), DATA),
}


def kind_of_file(path: Path) -> Kind | None:
    """What a file or folder is, if it is known; an ONNX model is told by its ending alone."""
    try:
        if path.is_dir():
            return _of_folder(path)
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except (OSError, ValueError):
        return None
    if not head:
        return EMPTY
    ending = ONNX if path.suffix == ".onnx" else _ENDINGS.get(path.suffix.lower())
    return _by_signature(head) or _of_zip(path, head) or _by_text(head) or _of_pickle(head, path) or ending


def _of_folder(path: Path) -> Kind | None:
    models = sorted(file.name for file in path.glob("*.onnx"))
    if models:
        return Kind("a folder", f"name the .onnx file in it: {', '.join(models[:3])}")
    if (path / "saved_model.pb").exists():
        return SAVED_MODEL
    if any(path.glob("*.safetensors")) or (path / "config.json").exists():
        return Kind("a folder with a checkpoint, not with an ONNX file", _OF_HUB)
    return COREML if path.suffix == ".mlpackage" else None


def _by_signature(head: bytes) -> Kind | None:
    return next((kind for at, mark, kind in _SIGNATURES if head[at : at + len(mark)] == mark), None)


def _of_zip(path: Path, head: bytes) -> Kind | None:
    if not head.startswith(b"PK\x03\x04"):
        return None
    names: list[str] = []
    with suppress(OSError, zipfile.BadZipFile), zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if any(name.endswith(".pkl") for name in names):
        return TORCH
    if "model.weights.h5" in names:
        return KERAS
    if names and all(name.endswith(".npy") for name in names):
        return DATA
    return _ENDINGS.get(path.suffix.lower(), ARCHIVE)


def _by_text(head: bytes) -> Kind | None:
    text = head.decode("utf-8", "replace")
    if "\0" in text or text.count("\ufffd") > 1:  # one may be a character that ends behind the head
        return None
    return next((kind for pattern, kind in _TEXTS if re.search(pattern, text, re.I | re.S | re.M)), None)


def _of_pickle(head: bytes, path: Path) -> Kind | None:
    if head[0] != 0x80 or head[1:2] not in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return None
    return _ENDINGS.get(path.suffix.lower(), PICKLE)
