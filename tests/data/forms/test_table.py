"""Which form a source is, and what the package costs to import."""

from __future__ import annotations

import subprocess
import sys

import pytest

from compress_ops.data import FORMS, DataSettings, open_data
from compress_ops.errors import DataError
from compress_ops.runtime import Port

PORTS = [Port("x", "float32", (None, 2))]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("digit.npz", ["digit.npz", "does not exist"]),
        ("digit.npy", ["digit.npy", "does not exist"]),
        ("digitz", ["does not exist", "did you mean 'digits'"]),
        ("nowhere/at/all", ["does not exist"]),
        ("table.csv", ["table.csv", "not known", "FILE.npz", "FOLDER of images"]),
        ("digits", ["digits", "no .npz files and no images"]),
    ],
)
def test_sources_that_are_no_data(tmp_path, source, words):
    (tmp_path / "digits").mkdir()
    (tmp_path / "table.csv").write_text("1,2")
    with pytest.raises(DataError) as caught:
        open_data(source, PORTS, DataSettings(base=tmp_path))
    assert [word for word in words if word not in str(caught.value)] == []


def test_every_form_says_what_it_is():
    assert len({form.name for form in FORMS}) == len(FORMS)
    assert all(form.summary for form in FORMS)


def test_importing_loads_nothing_heavy():
    code = "import sys, compress_ops.data; sys.exit(bool({'PIL', 'onnx', 'onnx_ir', 'onnxruntime'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
