"""Costs read from profiles: real ones of models whose traffic is known, and worked ones."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest

from compress_ops.errors import ModelError
from compress_ops.measure.cost import peak_memory, profile_run, read_events, read_profile
from compress_ops.measure.environment import describe_environment
from compress_ops.runtime import CPU


def _saved(folder: Path, text: str, **weights: np.ndarray) -> Path:
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]> {text}')
    for name, array in weights.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    onnx.save(model, folder / "m.onnx")
    return folder / "m.onnx"


def test_weights_count_though_kernels_pack_them(tmp_path: Path) -> None:
    path = _saved(tmp_path, "g (float[2,8] x) => (float[2,16] y) { y = MatMul(x, w) }", w=np.ones((8, 16), "f4"))
    profile = profile_run(path, {"x": np.ones((2, 8), np.float32)}, CPU, 1)
    assert profile.bytes_moved == 4 * (2 * 8 + 8 * 16 + 2 * 16)
    assert profile.nodes_by_provider == {"cpu": 1}
    assert profile.copies == 0


def test_a_lookup_reads_only_its_rows(tmp_path: Path) -> None:
    table = np.ones((100_000, 4), np.float32)
    path = _saved(tmp_path, "g (int64[3] i) => (float[3,4] y) { y = Gather(table, i) }", table=table)
    assert profile_run(path, {"i": np.array([1, 5, 7])}, CPU, 1).bytes_moved == 2 * 4 * 3 * 4


def test_the_body_of_a_branch_counts_once(tmp_path: Path) -> None:
    text = """g (bool c, float[4] x) => (float[4] y) {
        y = If (c) <then_branch = t () => (float[4] p) { p = Exp(x) },
                    else_branch = e () => (float[4] q) { q = Abs(x) }>
    }"""
    profile = profile_run(_saved(tmp_path, text), {"c": np.array(True), "x": np.ones(4, np.float32)}, CPU, 1)
    assert profile.bytes_moved == 4 * (4 + 4)
    assert profile.nodes_by_provider == {"cpu": 2}


def _event(name: str, op: str, provider: str, read: int, weights: int, written: int) -> dict[str, Any]:
    sizes = {"activation_size": str(read), "parameter_size": str(weights), "output_size": str(written)}
    args = {"op_name": op, "provider": f"{provider}ExecutionProvider", "node_index": "0", **sizes}
    return {"cat": "Node", "name": name, "args": args}


def test_copies_between_providers() -> None:
    events = [
        {"cat": "Session", "name": "model_run", "args": {}},
        {"cat": "Node", "name": "fence_before", "args": {"op_name": "MatMul"}},
        _event("copy_in", "MemcpyFromHost", "CUDA", 10, 0, 10),
        _event("multiply", "MatMul", "CUDA", 10, 100, 20),
        _event("copy_out", "MemcpyToHost", "CUDA", 20, 0, 20),
        _event("shape", "Shape", "CPU", 20, 0, 8),
        _event("shape", "Shape", "CPU", 20, 0, 8),  # a node of a loop's body runs twice
    ]
    profile = read_profile(events)
    assert profile.nodes_by_provider == {"cpu": 1, "cuda": 3}
    assert profile.copies == 2
    assert profile.bytes_moved == 20 + 130 + 40 + 28 + 28


def test_a_model_that_onnxruntime_refuses(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"not a model")
    with pytest.raises(ModelError, match="refuses"):
        profile_run(tmp_path / "m.onnx", {}, CPU, 1)


def test_peak_memory_is_in_bytes() -> None:
    peak = peak_memory()
    assert peak is None or 2**24 < peak < 2**40  # numpy and onnxruntime alone take more than 16 MiB


def test_environment_of_this_machine() -> None:
    import onnxruntime

    found = describe_environment("cpu", 3)
    assert (found.provider, found.threads, found.device) == ("cpu", 3, None)
    assert found.onnxruntime == onnxruntime.__version__
    assert found.cpu
    assert found.cores >= 1


def test_features_that_decide_the_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    monkeypatch.setattr("compress_ops.measure.environment._CPUINFO", cpuinfo)
    cpuinfo.write_text("model name\t: A CPU\nflags\t\t: fpu avx2 avx512_vnni sse\n\nmodel name\t: Another\n")
    found = describe_environment("cpu", 1)
    assert (found.cpu, found.cpu_features) == ("A CPU", ("avx2", "avx512_vnni"))
    cpuinfo.write_text("processor\t: 0\nFeatures\t: fp asimd asimddp\n")
    assert describe_environment("cpu", 1).cpu_features == ("asimd", "asimddp")
    cpuinfo.unlink()
    assert describe_environment("cpu", 1).cpu_features == ()


def test_profiles_with_names_as_they_are() -> None:
    """As onnxruntime 1.27 writes them: without a mark before what JSON forbids."""
    assert read_events(b'[{"name": "a\nb"}]') == [{"name": "a\nb"}]
    for broken in (b'[{"name": "a"b"}]', b'[{"name": "\xff"}]'):
        with pytest.raises(ModelError, match="profile cannot be read"):
            read_events(broken)
