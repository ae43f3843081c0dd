"""Random data: seeded, sized by what runs, and said to be synthetic."""

from __future__ import annotations

import numpy as np
import pytest

from compress_ops.data import DataSettings, feed_that_runs, open_data
from compress_ops.errors import DataError, ModelError
from compress_ops.runtime import Port, open_session

X = Port("x", "float32", ("n", 4))


def anything(feed):
    """Stands for a model that takes every feed."""


def only(**wanted):
    """Stands for a model that runs at certain shapes alone."""

    def runs(feed):
        if any(feed[name].shape != shape for name, shape in wanted.items()):
            raise ModelError("wrong shape for this model")

    return runs


def shapes(ports, runs=anything, **settings):
    return {name: array.shape for name, array in feed_that_runs(ports, DataSettings(**settings), runs).items()}


def test_the_first_axis_is_the_batch_and_sequences_start_at_one():
    ports = [Port("ids", "int64", ("batch", "seq")), Port("state", "float32", (2, "batch", 4))]
    assert shapes(ports, batch_size=3) == {"ids": (3, 1), "state": (2, 3, 4)}
    assert shapes(ports, batch_size=3, dims={"seq": 9, "batch": 2}) == {"ids": (2, 9), "state": (2, 2, 4)}


def test_a_whole_shape_sizes_its_input_and_its_names_elsewhere():
    ports = [Port("x", "float32", ("n", 3, None, None)), Port("ids", "int64", ("n", "seq")), Port("any", "float32", ())]
    given = {"x": [2, 3, 48, 192], "any": [5, 7]}
    assert shapes(ports, batch_size=4, shapes=given) == {"x": (2, 3, 48, 192), "ids": (2, 1), "any": (5, 7)}
    assert len(open_data("random", ports, DataSettings(batch_size=4, shapes=given, samples=6))) == 6


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"shapes": {"y": [1]}}, "no input named 'y'"),
        ({"shapes": {"x": [1, 4, 4]}}, r"the shape \[1, 4, 4\] does not fit input 'x', which is \[n, 4\]"),
        ({"shapes": {"x": [1, 5]}}, r"the shape \[1, 5\] does not fit"),
        ({"shapes": {"x": [2, 4]}, "dims": {"n": 3}}, "'n' is given two sizes, 3 and 2"),
    ],
)
def test_shapes_that_do_not_fit(settings, told):
    with pytest.raises(DataError, match=told):
        shapes([X], **settings)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((None, 3, None, None), (1, 3, 224, 224)),
        (("n", "c", "h", "w"), (1, 3, 224, 224)),
        ((1, "h", "w", 3), (1, 224, 224, 3)),
        ((None, 3, 48, None), (1, 3, 48, 224)),
        ((None, 12, "past", 64), (1, 12, 1, 64)),
        ((None, None, 64), (1, 1, 64)),
        ((4, 2), (4, 2)),
        ((), ()),
    ],
)
def test_first_guesses(shape, expected):
    assert shapes([Port("x", "float32", shape)], batch_size=1) == {"x": expected}


@pytest.mark.parametrize("wanted", [(1, 3, 320, 320), (1, 3, 64, 64), (1, 3, 1, 1), (1, 3, 320, 64)])
def test_other_sizes_are_tried_until_one_runs(wanted):
    assert shapes([Port("x", "float32", (None, 3, None, None))], only(x=wanted), batch_size=1) == {"x": wanted}


def test_one_symbol_has_one_size_and_an_unnamed_batch_axis_is_found():
    ports = [Port("a", "float32", (None, "t")), Port("b", "float32", (None, "t", 5)), Port("s", "float32", (2, None))]
    expected = {"a": (8, 64), "b": (8, 64, 5), "s": (2, 8)}
    assert shapes(ports, only(**expected), batch_size=8) == expected


def test_when_nothing_runs_the_reason_is_told():
    def never(feed):
        raise ModelError("model.onnx does not run: no such luck")

    with pytest.raises(DataError, match="no such luck") as caught:
        shapes([Port("x", "float32", (None, None))], never)
    assert "--dim" in caught.value.hint


def test_bugs_are_not_taken_for_refusals():
    def broken(feed):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        shapes([Port("x", "float32", (None,))], broken)


def test_onnxruntime_decides():
    import onnx.parser

    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 17]>
        g (float[n, 3, h, w] x, int64[n, t] ids, bool flag) => (float[n, 3, 56, 56] y, int64[n, t] z, bool out)
        <int64[4] shape = {0, 3, 56, 56}> { p = AveragePool <kernel_shape = [4, 4], strides = [4, 4]> (x)
          y = Reshape (p, shape)  z = Identity (ids)  out = Identity (flag) }"""
    )
    session = open_session(model.SerializeToString())
    feed = feed_that_runs(session.inputs, DataSettings(batch_size=2), session.run)
    assert (feed["x"].shape, feed["ids"].shape, feed["flag"].shape) == ((2, 3, 224, 224), (2, 1), ())
    assert session.run(feed)["y"].shape == (2, 3, 56, 56)


def test_contents_suit_their_types():
    types = ("int64", "int32", "bool", "uint8", "float32", "float16")
    ports = [Port(dtype, dtype, (50, 40)) for dtype in types]
    ports += [Port("attention_mask", "int64", (5, 4)), Port("text", "string", (2,))]
    feed = feed_that_runs(ports, DataSettings(), anything)
    assert [feed[dtype].dtype.name for dtype in types] == list(types)
    assert all(set(feed[name].ravel().tolist()) == {0, 1} for name in ("int64", "int32", "bool"))
    assert (feed["uint8"].min(), feed["uint8"].max()) == (0, 255)
    assert abs(feed["float32"].mean()) < 5 / 2000**0.5  # five standard errors
    assert abs(feed["float32"].std() - 1) < 5 / 4000**0.5
    assert feed["attention_mask"].all()
    assert feed["text"].dtype.kind == "U"


def test_values_fill_inputs():
    ports = [Port("sr", "int64", ()), Port("gain", "float32", (None, 3))]
    feed = feed_that_runs(ports, DataSettings(batch_size=2, values={"sr": 16000, "gain": 0.5}), anything)
    assert (feed["sr"].shape, feed["sr"].item()) == ((), 16000)
    assert feed["gain"].tolist() == [[0.5] * 3] * 2


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"dims": {"sequ": 3}}, "no dimension named 'sequ'; did you mean 'seq'"),
        ({"values": {"idz": 3}}, "no input named 'idz'; did you mean 'ids'"),
        ({"values": {"ids": 0.5}}, "0.5 does not fit input 'ids'"),
    ],
)
def test_settings_that_mean_nothing(settings, word):
    with pytest.raises(DataError) as caught:
        shapes([Port("ids", "int64", ("batch", "seq"))], **settings)
    assert word in str(caught.value)


def samples(seed):
    data = open_data("random", [X], DataSettings(seed=seed, samples=20))
    return np.concatenate([batch.feeds["x"] for batch in data.batches()])


def test_the_same_seed_gives_the_same_samples_all_different():
    assert np.array_equal(samples(1), samples(1))
    assert not np.array_equal(samples(1), samples(2))
    assert len(np.unique(samples(1), axis=0)) == 32


def test_it_is_said_to_be_synthetic_and_every_batch_is_full():
    data = open_data("random", [X], DataSettings(samples=40))
    assert (data.name, data.synthetic, len(data)) == ("random (synthetic)", True, 48)
    assert [(batch.size, len(batch.feeds["x"]), batch.labels) for batch in data.batches()] == [(16, 16, None)] * 3
    assert [batch.size for batch in data.batches(limit=1)] == [16]


@pytest.mark.parametrize(
    ("first_axes", "dims", "size"),
    [((1, 2), {}, 1), ((3, 3), {}, 3), (("n", 2), {}, 16), (("n", "n"), {"n": 5}, 5)],
)
def test_how_many_samples_a_batch_holds(first_axes, dims, size):
    ports = [Port(f"x{number}", "float32", (axis, 4)) for number, axis in enumerate(first_axes)]
    assert next(open_data("random", ports, DataSettings(dims=dims)).batches()).size == size


def test_the_digest_is_of_the_settings():
    def digest(**settings):
        return open_data("random", [X], DataSettings(**settings)).digest()

    assert digest() == digest()
    assert len({digest(), digest(seed=1), digest(dims={"n": 3}), digest(values={"x": 1}), digest(samples=64)}) == 5


def test_opening_tries_what_runs():
    data = open_data("random", [Port("x", "float32", ("n", "t"))], DataSettings(runs=only(x=(16, 64))))
    assert next(data.batches()).feeds["x"].shape == (16, 64)


def test_random_data_has_no_labels():
    with pytest.raises(DataError, match="no labels"):
        open_data("random", [X], DataSettings(labels="y"))


def test_inputs_too_large_to_make_up():
    with pytest.raises(DataError, match="too large"):
        shapes([Port("x", "float32", (2**40,))])
