"""What ``import compress_ops`` gives, and what it costs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import compress_ops
from tests.helpers import SAMPLES

HEAVY = {"numpy", "onnx", "onnx_ir", "onnxruntime", "onnxscript", "pydantic", "yaml", "rich", "typer"}


def test_every_name_it_promises_is_there() -> None:
    assert sorted(compress_ops.__all__) == list(compress_ops.__all__)
    for name in compress_ops.__all__:
        assert getattr(compress_ops, name).__name__ == name


def test_names_for_type_checkers_are_those_given_at_run_time() -> None:
    """The imports under TYPE_CHECKING, __all__ and the table of homes say the same."""
    tree = ast.parse(Path(compress_ops.__file__).read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    typed = {alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    homes = {name: module for module, names in compress_ops._HOMES.items() for name in names}
    assert typed == homes and sorted(homes) == compress_ops.__all__


def test_other_names_are_not_there() -> None:
    with pytest.raises(AttributeError, match="module 'compress_ops' has no attribute 'nonsense'"):
        _ = compress_ops.nonsense


def test_importing_it_loads_nothing_heavy() -> None:
    code = "import sys, compress_ops; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "compress_ops" in loaded
    assert HEAVY.isdisjoint(name.partition(".")[0] for name in loaded)


def test_the_example_in_its_docstring_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = SAMPLES
    (tmp_path / "recipe.yaml").write_text("version: 1\nmeasure: {seconds: 0.02}\npasses: [quantize_dynamic]\n")
    (tmp_path / "model.onnx").write_bytes((samples / "digits-mlp.onnx").read_bytes())
    monkeypatch.chdir(tmp_path)
    lines = [line[4:] for line in (compress_ops.__doc__ or "").split("\n") if line.startswith("    ")]
    assert len(lines) == 2
    exec("\n".join(["from pathlib import Path", *lines]), {})
    assert (tmp_path / "small.onnx").stat().st_size < 0.5 * (tmp_path / "model.onnx").stat().st_size
