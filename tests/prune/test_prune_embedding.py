"""prune_embedding: old ids still mean the same rows, what went has one row, and what cannot shrink is declined."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from compress_ops.errors import PassError
from compress_ops.model import Model, load
from compress_ops.passes import Change
from compress_ops.prune import prune_channels, prune_embedding
from tests.helpers import SAMPLES, Given, array_of, context, model_of, noise, outputs, reloaded

ROWS, WIDTH = 40, 16
TABLE = noise(ROWS, WIDTH)
SEEN = np.array([[3, 5, 5], [0, 39, -2]])  # -2 is row 38
KEPT = [0, 3, 5, 38, 39]
TEXT = "agraph (int64[N,M] ids) => (float[N,M,K] y) {\n y = Gather(table, ids)\n}"


def pruned(model: Model, *feeds: dict[str, np.ndarray], **options: object) -> Change:
    contract = model.contract()
    with model.keeping_ports():
        change = prune_embedding(model, context(calibration=Given(*feeds)), **options)
    model.check()
    assert model.contract() == contract
    return change


def given(text: str = TEXT, **weights: np.ndarray) -> Model:
    return model_of(text, **({"table": TABLE} | weights))


@pytest.mark.parametrize("unseen", ["mean", "zero"])
def test_seen_ids_give_their_rows_and_all_others_one(unseen: str) -> None:
    model = given()
    change = pruned(model, {"ids": SEEN}, unseen=unseen)
    rest = np.setdiff1d(np.arange(ROWS), KEPT)
    expected = TABLE.copy()
    expected[rest] = TABLE[rest].mean(axis=0) if unseen == "mean" else 0
    everything = np.arange(-ROWS, ROWS).reshape(2, ROWS)
    assert np.allclose(outputs(reloaded(model), ids=everything)[0], expected[everything], atol=1e-6)
    assert array_of(model, "table").shape == (len(KEPT) + 1, WIDTH)
    (name,) = change.notes["id maps"]
    assert f"rows 40 -> 6, ids through '{name}'; 35 rows went" in change.touched["table"]
    assert np.array_equal(np.flatnonzero(array_of(model, name) < len(KEPT)), KEPT)


def test_unseen_ids_may_be_an_error() -> None:
    model = given()
    pruned(model, {"ids": SEEN}, unseen="error")
    assert array_of(model, "table").shape == (len(KEPT), WIDTH)
    assert np.array_equal(outputs(reloaded(model), ids=SEEN)[0], TABLE[SEEN])
    with pytest.raises(Exception, match="out of data bounds"):
        outputs(model, ids=np.array([[1]]))


def test_rows_asked_for_rarely_may_go_too() -> None:
    model = given()
    pruned(model, {"ids": SEEN}, {"ids": SEEN[:1]}, min_count=2)
    assert np.array_equal(array_of(model, "table")[:-1], TABLE[[3, 5]])


def test_training_data_counts_too() -> None:
    model = given()
    data = context(calibration=Given({"ids": SEEN[:1]}), training=Given({"ids": np.array([[7]])}))
    prune_embedding(model, data)
    assert np.array_equal(array_of(model, "table")[:-1], TABLE[[3, 5, 7]])


def test_tables_read_by_the_same_ids_share_a_map() -> None:
    text = """agraph (int32[N,M] ids, int32[L] more) => (float[K,16] a, float[K,8] b, float[L,16] c) {
        flat = Reshape(ids, sizes)  a = Gather(table, flat)  b = Gather(narrow, flat)  c = Gather(table, more) }"""
    model = given(text, narrow=noise(ROWS, 8, seed=1), sizes=np.array([-1]))
    expected = outputs(model, ids=SEEN.astype(np.int32), more=np.array([9], np.int32))
    change = pruned(model, {"ids": SEEN.astype(np.int32), "more": np.array([9], np.int32)})
    found = outputs(reloaded(model), ids=SEEN.astype(np.int32), more=np.array([9], np.int32))
    assert all(np.array_equal(left, right) for left, right in zip(expected, found, strict=True))
    assert len(change.notes["id maps"]) == 1 and set(change.touched) == {"table", "narrow"}
    assert array_of(model, "narrow").shape == (7, 8)
    assert [node.op_type for node in model.nodes()].count("Gather") == 5


def test_the_saving_is_real() -> None:
    """The map takes 4 bytes a row: the same rows of a table of one column are not worth it."""
    wide, narrow = given(), given(table=noise(ROWS, 1))
    before = wide.weight_bytes()
    pruned(wide, {"ids": SEEN})
    assert wide.weight_bytes() == before - 34 * WIDTH * 4 + ROWS * 4
    change = pruned(narrow, {"ids": SEEN})
    assert not change.touched
    assert change.declined[0].reason == "35 of its 40 rows could go: 136 bytes, and the map of ids takes 160"
    assert narrow.weight_bytes() == ROWS * 4


def test_codes_are_rows_too() -> None:
    codes = np.arange(-ROWS, ROWS, dtype=np.int8).reshape(ROWS, 2).repeat(8, axis=1)
    text = "agraph (int64[N] ids) => (float[N,16] y) {\n g = Gather(table, ids)\n y = DequantizeLinear(g, s)\n}"
    model = given(text, table=codes, s=np.float32(0.5))
    pruned(model, {"ids": np.array([1, 2])})
    table = array_of(model, "table")
    assert table.dtype == np.int8 and np.array_equal(table[:2], codes[1:3])
    assert np.array_equal(table[2], np.rint(np.delete(codes, [1, 2], axis=0).astype(np.float32).mean(axis=0)))


REFUSED = {
    "tied": (
        """agraph (int64[N] ids) => (float[N,40] y) {
            e = Gather(table, ids)  t = Transpose(table)  y = MatMul(e, t) }""",
        "it is tied: Transpose_t (Transpose) reads all of its rows",
    ),
    "computed": (
        """agraph (int64[N] ids) => (float[M,16] y) {
            s = Shape(ids)  y = Gather(table, s) }""",
        "its ids are computed, not an input of the model",
    ),
    "columns": ("agraph (int64[N] ids) => (float[40,N] y) {\n y = Gather<axis = 1>(table, ids)\n}", "gathers columns"),
    "output": (
        "agraph (int64[N] ids) => (float[N,16] y, float[40,16] table) {\n y = Gather(table, ids)\n}",
        "it is an output of the model",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_must_stay_is_declined(name: str) -> None:
    text, reason = REFUSED[name]
    change = pruned(given(text), {"ids": np.array([1])})
    assert not change.touched and len(change.declined) == 1
    assert change.declined[0].name == "table" and reason in change.declined[0].reason


def test_patterns_name_the_lookup() -> None:
    change = pruned(given(), {"ids": SEEN}, skip=["Gather"])
    assert not change.touched and "left out by the patterns" in change.declined[0].reason


def test_a_table_that_is_all_used_stays() -> None:
    change = pruned(given(), {"ids": np.arange(ROWS).reshape(4, 10)})
    assert [declined.reason for declined in change.declined] == ["the data asks for each of its 40 rows"]
    change = pruned(given(), {"ids": SEEN}, min_count=9)
    assert [declined.reason for declined in change.declined] == ["the data asks for none of its 40 rows"]


def test_ids_out_of_range_are_told() -> None:
    with pytest.raises(PassError, match="the data has the id 40, and 'table' has 40 rows"):
        pruned(given(), {"ids": np.array([[40]])})


def test_a_table_in_a_branch_is_declined() -> None:
    text = """agraph (int64[N] ids, bool c) => (float[N,16] y) {
        y = If (c) <
            then_branch = a () => (float[N,16] p) { p = Gather(table, ids) },
            else_branch = b () => (float[N,16] q) { q = Gather(table, ids) }
        >
    }"""
    change = pruned(given(text), {"ids": np.array([1]), "c": np.array(True)})
    assert [declined.reason for declined in change.declined] == ["it is read inside a branch or loop"]


def test_nothing_to_look_up_changes_nothing() -> None:
    model = model_of("agraph (float[N,4] x) => (float[N,4] y) {\n y = MatMul(x, w)\n}", w=noise(4, 4))
    change = pruned(model, {"x": noise(2, 4)})
    assert not change.touched and not change.declined


def test_the_recommender_keeps_its_answers_and_can_be_cut_further(tmp_path: Path) -> None:
    path = SAMPLES / "recommender.onnx"
    train = np.load(SAMPLES / "recommender-train.npz")
    feeds = {"user": train["user"], "items": train["items"]}
    model = load(path)
    expected = outputs(model, **feeds)[0]
    change = pruned(model, feeds)
    assert np.array_equal(outputs(reloaded(model), **feeds)[0], expected)
    assert len(change.touched) == 4 and len(change.notes["id maps"]) == 2
    model.save(tmp_path / "rows.onnx")
    rows = (tmp_path / "rows.onnx").stat().st_size
    assert rows < 0.92 * path.stat().st_size
    prune_channels(model, context(), ratio=0.5)
    model.save(tmp_path / "both.onnx")
    assert (tmp_path / "both.onnx").stat().st_size < 0.6 * rows
    assert np.isfinite(outputs(load(tmp_path / "both.onnx"), **feeds)[0]).all()
