"""Files: hostile ones are refused with a clear error, and no write ever harms what was there."""

from __future__ import annotations

import errno
import os
import resource
import shutil
from contextlib import suppress

import numpy as np
import onnx
import onnx_ir
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import compress_ops.model
from compress_ops.errors import ModelError, OnnxpressError, OutputError
from compress_ops.files.models import file_digest, model_files
from compress_ops.model import load
from tests.graphs import branches
from tests.helpers import model_of, noise, outputs, proto_of

MATMUL = "g (float[N,64] x) => (float[N,16] y) { y = MatMul(x, w) }"
WEIGHT = noise(64, 16)
X = noise(3, 64, seed=1)


def write_external(folder, name="m.onnx", data="m.data", weight=WEIGHT):
    path = folder / name
    onnx.save(proto_of(MATMUL, w=weight), path, save_as_external_data=True, location=data, size_threshold=0)
    return path


def edit_entries(path, **entries):
    """Rewrite the external data entries of the first weight; None removes one."""
    proto = onnx.load(path, load_external_data=False)
    tensor = proto.graph.initializer[0]
    found = {entry.key: entry.value for entry in tensor.external_data} | entries
    del tensor.external_data[:]
    for key, value in found.items():
        if value is not None:
            tensor.external_data.add(key=key, value=str(value))
    onnx.save(proto, path)


def listing(folder):
    return sorted(path.name for path in folder.iterdir())


def first(model):
    """The numbers of the first weight."""
    return next(model.weights()).const_value.numpy()


def refused(folder, proto, told):
    onnx.save(proto, folder / "m.onnx")
    with pytest.raises(ModelError, match=told):
        load(folder / "m.onnx")


# --- what cannot be read ---


@pytest.mark.parametrize(
    "content", [b"", b"hello, this is a text file\n" * 20, b"\x00" * 100, b"\xff" * 100, b"PK\x03\x04"]
)
def test_what_is_no_model_is_refused(tmp_path, content):
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"m\.onnx is not an ONNX file"):
        load(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(ModelError, match="does not exist"):
        load(tmp_path / "absent.onnx")
    with pytest.raises(ModelError, match="is a folder"):
        load(tmp_path)


def test_an_unreadable_file_is_refused(tmp_path, monkeypatch):
    def forbidden(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(onnx, "load", forbidden)
    (tmp_path / "m.onnx").touch()
    with pytest.raises(ModelError, match=r"cannot read .*Permission denied"):
        load(tmp_path / "m.onnx")


def test_every_truncation_is_refused_or_leaves_a_usable_model(tmp_path):
    whole = proto_of(MATMUL, w=WEIGHT).SerializeToString()
    path = tmp_path / "m.onnx"
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelError):
            load(path)


BRANCHES = branches("float[N,64] x", "float[N,16]", "a = MatMul(x, w)", "n = MatMul(x, w)  o = Neg(n)").replace(
    "{ y =", "{ k = Constant <value_ints = [1, 2]> ()  y =", 1
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flips=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=6))
def test_damaged_bytes_give_a_model_or_a_documented_error(tmp_path, flips):
    damaged = bytearray(proto_of(BRANCHES, w=WEIGHT[:, :1]).SerializeToString())
    for position, value in flips:
        damaged[position % len(damaged)] = value
    path = tmp_path / "damaged.onnx"
    path.write_bytes(damaged)
    try:
        model = load(path)
    except OnnxpressError:
        return
    for value in model.weights():  # what load lets through can be looked at
        assert value.const_value.numpy().size == value.const_value.size
    assert model.weight_bytes() >= 0


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=300))
def test_random_bytes_give_a_documented_error(tmp_path, content):
    path = tmp_path / "random.onnx"
    path.write_bytes(content)
    with suppress(OnnxpressError):
        assert load(path).nodes() is not None


def test_training_info_is_refused_by_name(tmp_path):
    proto = proto_of(MATMUL, w=WEIGHT)
    proto.training_info.add()
    refused(tmp_path, proto, "training_info")


def sparse(name):
    values = onnx.helper.make_tensor(name, onnx.TensorProto.FLOAT, [2], [1.0, 2.0])
    indices = onnx.helper.make_tensor("indices", onnx.TensorProto.INT64, [2], [0, 5])
    return onnx.helper.make_sparse_tensor(values, indices, [10])


def test_sparse_initializers_are_refused_by_name(tmp_path):
    proto = proto_of(MATMUL, w=WEIGHT)
    proto.graph.sparse_initializer.append(sparse("thin"))
    refused(tmp_path, proto, r"sparse_initializer.*thin")


def test_a_sparse_initializer_in_a_branch_is_refused_too(tmp_path):
    proto = proto_of(BRANCHES, w=WEIGHT)
    proto.graph.node[1].attribute[0].g.sparse_initializer.append(sparse("hidden"))
    refused(tmp_path, proto, "hidden")


def test_a_sparse_constant_is_refused(tmp_path):
    proto = proto_of("g (float[10] x) => (float[10] y) { y = Add(x, k) }")
    proto.graph.node.insert(0, onnx.helper.make_node("Constant", [], ["k"], sparse_value=sparse("thin")))
    refused(tmp_path, proto, "spars")


@pytest.mark.parametrize("dims", [[64, 17], [64], [-64, -16], [2**62, 4]])
def test_a_weight_whose_shape_does_not_fit_its_bytes_is_refused(tmp_path, dims):
    proto = proto_of(MATMUL, w=WEIGHT)
    proto.graph.initializer[0].dims[:] = dims
    refused(tmp_path, proto, "'w'")


def test_a_weight_whose_numbers_are_of_another_type_is_refused(tmp_path):
    proto = proto_of(MATMUL)
    proto.graph.initializer.append(onnx.TensorProto(name="w", data_type=1, dims=[64, 16], int32_data=[0] * 1024))
    refused(tmp_path, proto, "'w' needs 1024 bytes or numbers, 0 are there")


# --- external data ---


def test_external_data_is_read_from_beside_the_model(tmp_path, monkeypatch):
    path = write_external(tmp_path)
    monkeypatch.chdir(tmp_path)
    for name in (path, path.relative_to(tmp_path)):
        model = load(name)
        monkeypatch.chdir("/")  # the place was settled at load
        assert model.external
        np.testing.assert_array_equal(first(model), WEIGHT)
        monkeypatch.chdir(tmp_path)


def test_external_data_in_a_folder_below_is_fine(tmp_path):
    (tmp_path / "sub").mkdir()
    path = write_external(tmp_path, data="sub/m.data")
    np.testing.assert_array_equal(first(load(path)), WEIGHT)
    assert model_files(path) == [path, tmp_path / "sub" / "m.data"]


def test_missing_external_data_is_refused(tmp_path):
    path = write_external(tmp_path)
    (tmp_path / "m.data").unlink()
    with pytest.raises(ModelError, match=r"'w' in 'm\.data' does not exist"):
        load(path)


@pytest.mark.parametrize("with_length", [True, False])
def test_external_data_that_is_too_short_is_refused(tmp_path, with_length):
    path = write_external(tmp_path)
    (tmp_path / "m.data").write_bytes(WEIGHT.tobytes()[:-1])
    edit_entries(path, length=WEIGHT.nbytes if with_length else None)
    with pytest.raises(ModelError, match="truncated"):
        load(path)


@pytest.mark.parametrize("entries", [{"offset": -8}, {"length": -8}, {"offset": "x"}, {"offset": 10**30}])
def test_absurd_offsets_and_lengths_are_refused(tmp_path, entries):
    path = write_external(tmp_path)
    edit_entries(path, **entries)
    with pytest.raises(ModelError, match=r"'w' in 'm\.data'"):
        load(path)


def test_a_length_that_does_not_fit_the_shape_is_refused(tmp_path):
    path = write_external(tmp_path)
    edit_entries(path, length=WEIGHT.nbytes - 4)
    with pytest.raises(ModelError, match="'w'"):
        load(path)


@pytest.mark.parametrize("location", ["../m.data", "sub/../../m.data", "/etc/passwd", "", ".", "..\\m.data", "C:\\m"])
def test_external_data_that_leaves_the_folder_is_refused(tmp_path, location):
    (tmp_path / "inner").mkdir()
    path = write_external(tmp_path / "inner")
    shutil.copy(tmp_path / "inner" / "m.data", tmp_path / "m.data")
    edit_entries(path, location=location)
    with pytest.raises(ModelError, match=r"outside the model's folder|does not exist"):
        load(path)


def test_a_symbolic_link_out_of_the_folder_is_refused(tmp_path):
    (tmp_path / "inner").mkdir()
    path = write_external(tmp_path / "inner")
    os.replace(tmp_path / "inner" / "m.data", tmp_path / "secret")
    (tmp_path / "inner" / "m.data").symlink_to(tmp_path / "secret")
    with pytest.raises(ModelError, match="outside the model's folder"):
        load(path)


def test_a_download_cache_of_links_is_read(tmp_path):
    """huggingface_hub: model and data are links into one folder of blobs; onnxruntime runs that, so it loads here."""
    (tmp_path / "blobs").mkdir()
    (tmp_path / "snapshot").mkdir()
    original = write_external(tmp_path / "blobs")
    os.replace(original, tmp_path / "blobs" / "1234")
    os.replace(tmp_path / "blobs" / "m.data", tmp_path / "blobs" / "5678")
    (tmp_path / "snapshot" / "m.onnx").symlink_to("../blobs/1234")
    (tmp_path / "snapshot" / "m.data").symlink_to("../blobs/5678")
    model = load(tmp_path / "snapshot" / "m.onnx")
    np.testing.assert_array_equal(first(model), WEIGHT)


def test_hard_links_are_read(tmp_path):
    """Package managers (uv, conda) install by hard link."""
    path = write_external(tmp_path)
    os.link(tmp_path / "m.data", tmp_path / "another name")
    np.testing.assert_array_equal(first(load(path)), WEIGHT)


# --- writing ---


def test_an_external_model_stays_external_under_a_name_by_content(tmp_path):
    model = load(write_external(tmp_path))
    model.save(tmp_path / "out.onnx")
    (data,) = (name for name in listing(tmp_path) if name.startswith("out.onnx."))
    assert data == f"out.onnx.{file_digest(tmp_path / data)[:8]}.data"
    assert model_files(tmp_path / "out.onnx") == [tmp_path / "out.onnx", tmp_path / data]
    np.testing.assert_array_equal(outputs(load(tmp_path / "out.onnx"), x=X), outputs(proto_of(MATMUL, w=WEIGHT), x=X))


def test_weights_leave_the_file_above_the_threshold(tmp_path, monkeypatch):
    model = model_of(MATMUL, w=WEIGHT)
    monkeypatch.setattr(compress_ops.model, "EXTERNAL_ABOVE", WEIGHT.nbytes)
    model.save(tmp_path / "inside.onnx")
    assert listing(tmp_path) == ["inside.onnx"]
    monkeypatch.setattr(compress_ops.model, "EXTERNAL_ABOVE", WEIGHT.nbytes - 1)
    model.save(tmp_path / "outside.onnx")
    assert len(model_files(tmp_path / "outside.onnx")) == 2
    np.testing.assert_array_equal(first(load(tmp_path / "outside.onnx")), WEIGHT)


def resaved(folder, seed, name="out.onnx"):
    model = load(write_external(folder, "in.onnx", "in.data", noise(64, 16, seed=seed)))
    model.save(folder / name)
    return {path.name for path in model_files(folder / name)} - {name}


def test_replacing_an_output_removes_its_stale_data_only(tmp_path):
    for bystander in ("out.onnx.original.data", "out.onnx.data", "other.onnx.12345678.data", "out.onnx.1234567z.data"):
        (tmp_path / bystander).write_bytes(b"someone else's")
    before = set(listing(tmp_path))
    (first,) = resaved(tmp_path, seed=1)
    (second,) = resaved(tmp_path, seed=2)
    assert first != second
    assert set(listing(tmp_path)) == before | {"in.onnx", "in.data", "out.onnx", second}


def test_an_output_name_with_wildcards_harms_no_other(tmp_path):
    (other,) = resaved(tmp_path, seed=1, name="ma.onnx")
    (first,) = resaved(tmp_path, seed=2, name="m[a].onnx")
    (second,) = resaved(tmp_path, seed=3, name="m[a].onnx")
    names = listing(tmp_path)
    assert other in names and second in names and first not in names


def test_saving_over_the_input_keeps_the_weights(tmp_path):
    path = write_external(tmp_path)
    load(path).save(path)
    np.testing.assert_array_equal(first(load(path)), WEIGHT)
    load(path).save(path)  # now from data that has the output's own name
    np.testing.assert_array_equal(first(load(path)), WEIGHT)


def test_same_content_saved_again_keeps_its_data(tmp_path):
    first = resaved(tmp_path, seed=1)
    assert resaved(tmp_path, seed=1) == first
    assert first <= set(listing(tmp_path))


class Interrupting(onnx_ir.LazyTensor):
    """A weight that cannot be had: what happens when a save dies half-way."""

    def __init__(self, error):
        def fail():
            raise error

        super().__init__(fail, dtype=onnx_ir.DataType.FLOAT, shape=onnx_ir.Shape(WEIGHT.shape), name="w")


@pytest.mark.parametrize(("raised", "seen"), [(KeyboardInterrupt, KeyboardInterrupt), (MemoryError, Exception)])
@pytest.mark.parametrize("external", [False, True])
def test_a_save_that_dies_leaves_the_old_file_and_nothing_else(tmp_path, external, raised, seen):
    out = tmp_path / "out.onnx"
    model_of(MATMUL, w=noise(64, 16, seed=7)).save(out)
    old = out.read_bytes()
    model = model_of("g (float[N,64] x) => (float[N,16] y) { h = MatMul(x, v)  y = Add(h, w) }", v=WEIGHT, w=WEIGHT)
    model.external = external
    model.graph.initializers["w"].const_value = Interrupting(raised())
    with pytest.raises(seen):
        model.save(out)
    assert out.read_bytes() == old
    assert listing(tmp_path) == ["out.onnx"]


@pytest.mark.parametrize("external", [False, True])
@pytest.mark.parametrize("failing", ["onnx.save", "os.replace"])
def test_a_disk_that_fills_up_is_an_output_error(tmp_path, monkeypatch, failing, external):
    out = tmp_path / "out.onnx"
    model = model_of(MATMUL, w=WEIGHT)
    model.external = external
    model.save(out)
    before = listing(tmp_path)
    next(model.weights()).const_value = onnx_ir.Tensor(WEIGHT + 1, name="w")

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(failing, full)
    with pytest.raises(OutputError, match=r"cannot write .*out\.onnx: No space left"):
        model.save(out)
    assert listing(tmp_path) == before
    np.testing.assert_array_equal(first(load(out)), WEIGHT)


@pytest.mark.parametrize("external", [False, True])
def test_a_real_write_that_stops_half_way_is_an_output_error(tmp_path, external):
    model = model_of(MATMUL, w=WEIGHT)
    model.external = external
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (WEIGHT.nbytes // 2, limits[1]))
    try:
        with pytest.raises(OutputError, match="File too large"):
            model.save(tmp_path / "out.onnx")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert listing(tmp_path) == []


def test_a_parent_that_is_a_file_is_an_output_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write"):
        model_of(MATMUL, w=WEIGHT).save(tmp_path / "file" / "m.onnx")


def test_an_error_beside_the_write_is_not_taken_for_one_of_it(tmp_path):
    model = model_of(MATMUL, w=WEIGHT)
    with pytest.raises(FileNotFoundError, match="labels"), model.staged(tmp_path / "out.onnx"):
        raise FileNotFoundError("labels")


def test_a_missing_parent_folder_and_a_folder_in_the_way_are_output_errors(tmp_path):
    model = model_of(MATMUL, w=WEIGHT)
    with pytest.raises(OutputError, match="No such file"):
        model.save(tmp_path / "absent" / "m.onnx")
    (tmp_path / "taken.onnx").mkdir()
    with pytest.raises(OutputError, match="cannot write"):
        model.save(tmp_path / "taken.onnx")
    assert listing(tmp_path) == ["taken.onnx"]


def test_staged_without_commit_leaves_nothing(tmp_path):
    model = load(write_external(tmp_path))
    before = listing(tmp_path)
    with model.staged(tmp_path / "out.onnx") as staged:
        assert staged.size == sum(path.stat().st_size for path in model_files(staged.path))
        assert np.array_equal(first(load(staged.path)), WEIGHT)
    assert listing(tmp_path) == before


def test_export_is_gone_afterwards():
    with model_of(MATMUL, w=WEIGHT).exported() as path:
        onnx.checker.check_model(path)
    assert not path.parent.exists()


# --- external data in every place that ONNX allows ---

FUNCTION = """<ir_version: 10, opset_import: ["": 17, "local": 1]>
    g (float[N,64] x) => (float[N,16] y) { y = local.dense(x) }
    <domain: "local", opset_import: ["": 17]>
    dense (a) => (b) { w = Constant <value = float[1] {0.0}> ()  b = MatMul(a, w) }"""
IN_NODES = {
    "function": FUNCTION,
    "output": "g (float[N,64] x) => (float[64,16] w, float[N,64] y) {"
    " w = Constant <value = float[1] {0.0}> ()  y = Neg(x) }",
    "branch": """g (bool c, float[N,64] x) => (float[N,16] y) {
        y = If (c) <then_branch = t () => (float[N,16] a) {
                        w = Constant <value = float[1] {0.0}> ()  a = MatMul(x, w) },
                    else_branch = e () => (float[N,16] b) { s = Constant <value_ints = [1, 16]> ()
                        q = Constant <value_ints = [1]> ()  p = ReduceSum(x, q)  b = Expand(p, s) }> }""",
}


@pytest.mark.parametrize("external", [True, False])
@pytest.mark.parametrize("text", IN_NODES.values(), ids=IN_NODES)
def test_external_tensors_in_constant_nodes_survive_a_save_elsewhere(tmp_path, text, external):
    (tmp_path / "elsewhere").mkdir()
    whole = proto_of(text)
    tensor = next(t for t in all_tensors(whole) if t.float_data)
    tensor.CopyFrom(onnx.numpy_helper.from_array(WEIGHT, "w"))
    feeds = {"x": X} | ({"c": np.array(True)} if "If" in text else {})
    expected = outputs(whole, **feeds)
    (tmp_path / "m.data").write_bytes(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="m.data")
    onnx.save(whole, tmp_path / "m.onnx")

    model = load(tmp_path / "m.onnx")
    model.external = external
    out = tmp_path / "elsewhere" / "out.onnx"
    model.save(out)
    assert (len(model_files(out)) == 1) or external
    np.testing.assert_array_equal(outputs(onnx.load(out), **feeds)[0], expected[0])


def all_tensors(proto):
    bodies = [proto.graph, *proto.functions]
    while bodies:
        for node in bodies.pop().node:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield attribute.t
                if attribute.HasField("g"):
                    bodies.append(attribute.g)
