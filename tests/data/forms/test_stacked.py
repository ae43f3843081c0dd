"""Stacked samples in one .npz: batching, streaming, every fault."""

from __future__ import annotations

import io
import tracemalloc
import zipfile
from functools import partial

import numpy as np
import pytest

from compress_ops.data import DataSettings, open_data
from compress_ops.errors import DataError, Faults
from compress_ops.runtime import Port

from .form_case import fault_of

IMAGE = Port("image", "float32", ("N", 3, 8, 8))
IDS = Port("ids", "int64", ("batch", "seq"))
STATE = Port("state", "float32", (2, "batch", 4))
RATE = Port("sr", "int64", ())
X = Port("x", "float32", ("N", 2))
ONES = np.ones((6, 2), np.float32)
RNG = np.random.default_rng(0)


def images(count):
    return RNG.random((count, 3, 8, 8), np.float32)


def opened(folder, ports, /, save=np.savez, labels=None, values=None, **arrays):
    save(folder / "set.npz", **arrays)
    settings = DataSettings(batch_size=4, labels=labels, values=values or {}, base=folder)
    return open_data("set.npz", ports, settings)


fault = partial(fault_of, opened)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_rows_come_back_in_order_with_their_labels(tmp_path, save):
    arrays = {"image": images(10), "label": np.arange(10)}
    data = opened(tmp_path, [IMAGE], save=save, labels="label", **arrays)
    batches = list(data.batches())
    assert [batch.size for batch in batches] == [4, 4, 2]
    assert np.array_equal(np.concatenate([batch.feeds["image"] for batch in batches]), arrays["image"])
    assert np.array_equal(np.concatenate([batch.labels for batch in batches]), arrays["label"])
    assert (len(data), data.name, data.synthetic, data.dropped) == (10, "set.npz", False, 0)


def test_each_call_starts_afresh_and_limit_counts_batches(tmp_path):
    data = opened(tmp_path, [IMAGE], image=images(10))
    first, again = next(data.batches()), next(data.batches())
    assert np.array_equal(first.feeds["image"], again.feeds["image"])
    assert [batch.size for batch in data.batches(limit=2)] == [4, 4]
    assert list(data.batches(limit=0)) == []


def test_fortran_order_is_read_as_stored(tmp_path):
    array = np.asfortranarray(images(6))
    batches = list(opened(tmp_path, [IMAGE], image=array).batches())
    assert np.array_equal(np.concatenate([batch.feeds["image"] for batch in batches]), array)


def test_a_name_with_a_slash(tmp_path):
    data = opened(tmp_path, [Port("serving/x", "float32", (None, 2))], **{"serving/x": ONES[:3]})
    assert next(data.batches()).feeds["serving/x"].shape == (3, 2)


@pytest.mark.parametrize(("fixed", "sizes", "dropped"), [(1, [1] * 7, 0), (3, [3, 3], 1), (7, [7], 0)])
def test_the_batch_that_the_model_fixes_wins(tmp_path, fixed, sizes, dropped):
    data = opened(tmp_path, [Port("x", "float32", (fixed, 2))], x=np.ones((7, 2), np.float32))
    assert [batch.size for batch in data.batches()] == sizes
    assert (len(data), data.dropped) == (sum(sizes), dropped)


def test_states_are_whole_feeds_and_scalars_belong_to_every_sample(tmp_path):
    speech, state = RNG.random((5, 16), np.float32), RNG.random((5, 2, 1, 4), np.float32)
    ports = [Port("speech", "float32", ("batch", None)), STATE, RATE]
    batches = list(opened(tmp_path, ports, speech=speech, state=state, sr=np.array(16000)).batches())
    assert [batch.size for batch in batches] == [1] * 5
    assert np.array_equal(batches[3].feeds["speech"], speech[3:4])
    assert np.array_equal(batches[3].feeds["state"], state[3])
    assert all(batch.feeds["sr"].shape == () and batch.feeds["sr"] == 16000 for batch in batches)


def test_one_scalar_a_sample(tmp_path):
    data = opened(tmp_path, [IDS, RATE], ids=np.ones((2, 3), np.int64), sr=np.array([8000, 16000]))
    rates = [batch.feeds["sr"] for batch in data.batches()]
    assert all(isinstance(rate, np.ndarray) and rate.shape == () for rate in rates)
    assert [int(rate) for rate in rates] == [8000, 16000]


def test_an_input_of_unknown_rank_takes_any_rank(tmp_path):
    batches = opened(tmp_path, [Port("x", "float32", ())], x=ONES).batches()  # () is what onnxruntime says of it
    assert [batch.feeds["x"].shape for batch in batches] == [(4, 2), (2, 2)]


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_values_supply_single_numbers_that_the_data_lacks(tmp_path, shape):
    rate = Port("sr", "int64", shape)
    batch = next(opened(tmp_path, [IDS, rate], values={"sr": 16000.0}, ids=np.ones((2, 3), np.int64)).batches())
    assert (batch.feeds["sr"].dtype, batch.feeds["sr"].shape, batch.feeds["sr"].item()) == (np.int64, shape, 16000)


@pytest.mark.parametrize("dtype", ["bool", "float16", "float64", "uint8", "int32"])
def test_other_types(tmp_path, dtype):
    array = np.array([[0, 1], [1, 1], [1, 0]], dtype)
    batch = next(opened(tmp_path, [Port("x", dtype, (None, 2))], x=array).batches())
    assert batch.feeds["x"].dtype == dtype
    assert np.array_equal(batch.feeds["x"], array)


def test_text(tmp_path):
    batch = next(opened(tmp_path, [Port("x", "string", (None,))], x=np.array(["ab", "ü"])).batches())
    assert batch.feeds["x"].tolist() == ["ab", "ü"]


@pytest.mark.parametrize(
    ("ports", "arrays", "words"),
    [
        ([X, IDS], {"x": ONES}, ["set.npz", "'ids'", "missing", "int64 [batch, seq]"]),
        ([X], {"x": ONES, "extra": ONES}, ["'extra'", "neither an input", "inputs are: x"]),
        ([X], {"x": ONES, "y": ONES}, ["data.evaluation.labels: y in a recipe", "--labels y"]),
        ([X], {"x": ONES, "y": ONES, "z": ONES, "labels": "z"}, ["'y'", "inputs are: x; labels are: z"]),
        ([IMAGE], {"imgae": images(4)}, ["did you mean 'imgae'", "did you mean 'image'"]),
        ([X], {"x": ONES.astype(np.float64)}, ["'x' is float64", "wants float32", "arr.astype(np.float32)"]),
        ([X], {"x": ONES.astype(">f4")}, ["byte order", "arr.astype(np.float32)"]),
        ([IDS], {"ids": np.ones((2, 3), np.int32)}, ["'ids' is int32", "wants int64"]),
        ([X], {"x": np.array([[1, None]], object)}, ["'x'", "Python objects", "never unpickled"]),
        ([IMAGE], {"image": np.ones((9, 8, 8, 3), np.float32)}, ["[9, 8, 8, 3]", "(0, 3, 1, 2)"]),
        (
            [Port("x", "float32", ("N", 1, 8, 8))],
            {"x": np.ones((9, 8, 8), np.float32)},
            ["[9, 8, 8]", "[samples, 1, 8, 8]", "arr.reshape(-1, 1, 8, 8)"],
        ),
        ([X], {"x": np.ones((4, 3), np.float32)}, ["'x' is [4, 3]", "[samples, 2]"]),
        ([X, IDS], {"x": ONES, "ids": np.ones((5, 3), np.int64)}, ["'ids' has 5 samples", "'x' has 6"]),
        ([X], {"x": ONES[:0]}, ["zero samples"]),
        ([RATE], {"sr": np.array(3)}, ["zero samples"]),
        ([Port("x", "float32", (8, 2))], {"x": ONES}, ["8 samples at a time", "there are 6"]),
        (
            [Port("x", "float32", (1, 2)), Port("s", "float32", (2, 1, 4))],
            {"x": ONES, "s": np.ones((6, 1, 4), np.float32)},
            ["'x' 1", "'s' 2", "[samples, *shape]"],
        ),
        ([X], {"x": np.array(1, np.float32)}, ["'x' is []", "[samples, 2]"]),
    ],
)
def test_faults_at_open(tmp_path, ports, arrays, words):
    text = fault(tmp_path, ports, **arrays)
    assert [word for word in words if word not in text] == []


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ({"labels": "lable", "label": np.arange(6)}, ["no labels array 'lable'", "did you mean 'label'"]),
        ({"labels": "label", "label": np.arange(5)}, ["labels 'label' is [5]", "6 samples"]),
        ({"labels": "label", "label": np.array(1)}, ["labels 'label' is []"]),
        ({"labels": "x"}, ["'x' is also an input"]),
        ({"labels": "label", "label": np.array([[], [1]] * 3, object)}, ["'label'", "never unpickled"]),
        ({"labels": "label", "label": np.array([0, 0, 0, 0, 0, np.nan])}, ["'label' holds nan in sample 5"]),
    ],
)
def test_faults_of_labels(tmp_path, labels, words):
    text = fault(tmp_path, [X], x=ONES, **labels)
    assert [word for word in words if word not in text] == []


@pytest.mark.parametrize("extra", [{}, {"label": np.arange(6)}])
def test_labels_that_nobody_needs_may_be_absent(tmp_path, extra):
    np.savez(tmp_path / "set.npz", x=ONES, **extra)
    settings = DataSettings(labels="label", needs_labels=False, base=tmp_path)
    batch = next(open_data("set.npz", [X], settings).batches())
    assert (batch.labels is None) == (not extra)


def test_all_faults_come_together(tmp_path):
    with pytest.raises(Faults) as caught:
        opened(tmp_path, [IMAGE, IDS], image=images(3).astype(np.float64)[:, :2], extra=ONES)
    text = " ".join(error.message for error in caught.value.faults)
    assert [word for word in ("'ids'", "'extra'", "float64", "[3, 2, 8, 8]") if word not in text] == []
    assert all(str(error.place) == "set.npz" for error in caught.value.faults)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_none_is_found_while_streaming(tmp_path, bad):
    array = np.ones((10, 2), np.float32)
    array[7, 1] = bad
    batches = opened(tmp_path, [X], x=array).batches()
    assert next(batches).size == 4
    with pytest.raises(DataError, match=rf"array 'x' holds {bad} in sample 7") as caught:
        next(batches)
    assert str(caught.value).startswith("set.npz: ")


@pytest.mark.parametrize("value", [{"sr": 0.5}, {"sr": 2.0**63}, {"sr": float("nan")}, {"rs": 1}])
def test_values_that_do_not_fit(tmp_path, value):
    text = fault(tmp_path, [IDS, RATE], ids=np.ones((2, 3), np.int64), sr=np.array(1), values=value)
    assert ("does not fit input 'sr'" in text) if "sr" in value else ("no input named 'rs'; did you mean 'sr'" in text)


def test_an_input_that_numpy_cannot_hold(tmp_path):
    assert "bfloat16" in fault(tmp_path, [Port("x", "bfloat16", (None, 2))], x=ONES)


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04" + bytes(50)])
def test_not_an_archive(tmp_path, content):
    (tmp_path / "set.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"not an \.npz file"):
        open_data("set.npz", [X], DataSettings(base=tmp_path))


def archive_of(member: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("x.npy", member)
    return out.getvalue()


def npy(array) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


@pytest.mark.parametrize(
    "member",
    [
        b"",
        b"text",
        npy(ONES)[:-1],
        npy(ONES) + b"more",
        npy(ONES)[:40],
        npy(-ONES).replace(b"(6, 2), ", b"(-6,-2),"),
        npy(ONES).replace(b"(6, 2), }  ", b"(3,-2,-2) }"),
        npy(ONES).replace(b"(6, 2), ", b"(9**99,)"),
        npy(ONES).replace(b"(6, 2), ", b"(10**8),"),
        npy(ONES).replace(b"<f4", b"<q9"),
    ],
)
def test_members_that_are_no_arrays(tmp_path, member):
    (tmp_path / "set.npz").write_bytes(archive_of(member))
    with pytest.raises(DataError, match="array 'x' cannot be read"):
        open_data("set.npz", [X], DataSettings(base=tmp_path))


def test_damage_inside_is_found_while_streaming(tmp_path):
    content = bytearray(archive_of(npy(np.ones((10_000, 2), np.float32))))
    content[60_000] ^= 1
    (tmp_path / "set.npz").write_bytes(content)
    data = open_data("set.npz", [X], DataSettings(base=tmp_path))
    with pytest.raises(DataError, match=r"array 'x' cannot be read.*CRC"):
        list(data.batches())


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_flipped_bits_give_documented_errors_only(tmp_path, save):
    save(tmp_path / "good.npz", x=np.arange(12, dtype=np.float32).reshape(6, 2), y=np.arange(6))
    good = (tmp_path / "good.npz").read_bytes()
    found = 0
    for position in np.random.default_rng(1).integers(0, len(good) * 8, 300).tolist():
        flipped = bytearray(good)
        flipped[position // 8] ^= 1 << position % 8
        (tmp_path / "set.npz").write_bytes(flipped)
        try:
            list(open_data("set.npz", [X], DataSettings(labels="y", base=tmp_path)).batches())
        except (DataError, Faults):
            found += 1
    assert found > 100


def write_zeros(file, rows, width):
    header = {"descr": "<f4", "fortran_order": False, "shape": (rows, width)}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive, archive.open("x.npy", "w") as x:
        np.lib.format.write_array_header_1_0(x, header)
        for _ in range(100):
            x.write(bytes(rows * width * 4 // 100))


def test_memory_does_not_grow_with_the_set(tmp_path):
    write_zeros(tmp_path / "set.npz", 100_000, 500)  # 200 MB of float32
    tracemalloc.start()
    try:
        data = open_data("set.npz", [Port("x", "float32", ("N", 500))], DataSettings(batch_size=1000, base=tmp_path))
        samples = sum(batch.size for batch in data.batches())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert samples == 100_000
    assert peak < 20e6  # a batch is 2 MB


def test_the_digest_is_of_the_content(tmp_path):
    np.savez(tmp_path / "a.npz", x=ONES)
    (tmp_path / "b.npz").write_bytes((tmp_path / "a.npz").read_bytes())
    np.savez(tmp_path / "c.npz", x=ONES + 1)
    a, b, c = (open_data(tmp_path / f"{name}.npz", [X], DataSettings()).digest() for name in "abc")
    assert a == b != c
    assert len(a) == 64


def test_a_model_that_takes_no_samples_is_told(tmp_path):
    told = fault(tmp_path, [Port("x", "float32", (0, 2))], x=np.ones((6, 2), np.float32))
    assert "input 'x' takes no samples: its first size is 0 in the model" in told
    with pytest.raises(DataError, match="the model takes no samples"):
        open_data("random", [Port("x", "float32", (0, 2))], DataSettings())
