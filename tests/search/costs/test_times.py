"""Times of layers: what is measured, how it is divided, and the table that keeps it from being measured again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from compress_ops.measure.cost import read_events
from compress_ops.model import Model
from compress_ops.runtime import CPU, Session
from compress_ops.search.costs import times
from compress_ops.search.costs.apart import apart, layers_of
from compress_ops.search.costs.times import Times, Timetable
from tests.graphs import each
from tests.helpers import model_of, noise

FEED = {"x": noise(4, 16)}
LAYER = (
    "w@ = DequantizeLinear(c@, t, none) m@ = MatMul(d, w@)",
    "q@ = QuantizeLinear(m@, s2, zero) @ = DequantizeLinear(q@, s2, zero)",
)
INTEGERS = f"""g (float[n,64] x) => (float[n,64] y, float[n,64] z) {{
  q = QuantizeLinear(x, s, zero) d = DequantizeLinear(q, s, zero) {each("yz", *LAYER)}
}}"""


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One entry for each run of a session."""
    seen: list[str] = []
    run = Session.run

    def counted(self: Session, *given: object, **more: object) -> object:
        seen.append(self.source)
        return run(self, *given, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Session, "run", counted)
    return seen


def two(
    first: str = "MatMul(x, a)", second: str = "MatMul(x, b)", inner: int = 16, seed: int = 0, names: str = "pq"
) -> Model:
    """Two layers beside one another that read x."""
    ports = f"(float[n,{inner}] x) => (float[n,8] {names[0]}, float[n,8] {names[1]})"
    text = f"g {ports} {{ {names[0]} = {first} {names[1]} = {second} }}"
    return model_of(text, a=noise(inner, 8, seed=seed), b=noise(inner, 8, seed=seed + 1), bias=noise(8))


def timed(table: Timetable, model: Model, feed: dict[str, np.ndarray] | None = None) -> Times:
    model.infer_shapes()
    alone = apart(model, layers_of(model))
    fed = {name: (feed or FEED)[of] for name, of in alone.inputs.items()}
    return table.of(alone.model, fed, alone.of)


def table(folder: Path | None = None, threads: int = 1) -> Timetable:
    return Timetable.opened(CPU, threads, folder)


def test_a_layer_of_more_work_takes_longer() -> None:
    text = "g (float[n,256] x) => (float[n,256] y, float[n,8] z) { y = MatMul(x, a) z = MatMul(x, b) }"
    found = timed(table(), model_of(text, a=noise(256, 256), b=noise(256, 8)), {"x": noise(256, 256)})
    large, small = found.kernels
    assert large > 2 * small > 0  # 32 times the work
    assert found.edges.tolist() == [0, 0]


def test_equal_layers_have_one_entry_whatever_their_names_and_weights() -> None:
    known = table()
    first = timed(known, two())
    assert len(known.known) == 1
    assert first.kernels[0] == first.kernels[1]
    again = timed(known, two(seed=5, names="vw"))
    assert len(known.known) == 1
    assert (again.kernels == first.kernels).all()


@pytest.mark.parametrize(
    ("model", "feed"),
    [
        (two(second="Gemm(x, b)"), FEED),
        (two(second="Gemm(x, b, bias)", first="Gemm(x, a)"), FEED),
        (two(first="Gemm<alpha=2.0>(x, a)", second="Gemm<alpha=3.0>(x, b)"), FEED),
    ],
    ids=["operator", "inputs", "attribute"],
)
def test_other_layers_have_entries_of_their_own(model: Model, feed: dict[str, np.ndarray]) -> None:
    known = table()
    timed(known, model, feed)
    assert len(known.known) == 2


def test_other_shapes_are_other_layers() -> None:
    """Of what is fed, and of the weight."""
    known = table()
    timed(known, two())
    timed(known, two(), {"x": noise(5, 16)})
    timed(known, two(inner=24), {"x": noise(4, 24)})
    assert len(known.known) == 3


def test_what_is_known_is_not_measured_again(runs: list[str]) -> None:
    known = table()
    timed(known, two())
    measured = len(runs)
    assert measured >= 5
    timed(known, two(seed=5))
    assert len(runs) == measured
    timed(known, two(second="Gemm(x, b)"))
    assert len(runs) > measured


def test_measuring_more_leaves_what_is_known_as_it_is() -> None:
    known = table()
    first = timed(known, two()).kernels[0]
    assert timed(known, two(second="Gemm(x, b)")).kernels[0] == first


def test_a_table_is_kept_for_the_next_run(tmp_path: Path, runs: list[str]) -> None:
    first = table(tmp_path / "cache")
    expected = timed(first, two())
    first.keep()
    measured = len(runs)
    found = timed(table(tmp_path / "cache"), two())
    assert len(runs) == measured
    assert found.kernels.tolist() == expected.kernels.tolist()
    (written,) = (tmp_path / "cache").iterdir()
    told = json.loads(written.read_text())
    assert told["measured on"]["threads"] == 1
    assert set(told["times"]) == set(first.known)


def test_another_number_of_threads_is_another_table(tmp_path: Path) -> None:
    for threads in (1, 2):
        known = table(tmp_path, threads)
        assert known.known == {}
        known.known["a"] = (1.0, 0.0)
        known.keep()
    assert len([*tmp_path.iterdir()]) == 2


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", "5", '{"times": []}', '{"times": {"a": 1}}', '{"times": {"a": [1]}}',
     '{"times": {"a": ["x", 2]}}', '{"times": null}', "\xff"],
)  # fmt: skip
def test_a_broken_table_is_as_good_as_none(tmp_path: Path, text: str) -> None:
    first = table(tmp_path)
    first.keep()
    (written,) = tmp_path.iterdir()
    written.write_bytes(text.encode("latin-1"))
    found = table(tmp_path)
    assert found.known == {}
    found.known["a"] = (1.0, 0.5)
    found.keep()
    assert table(tmp_path).known == {"a": (1.0, 0.5)}


@pytest.mark.parametrize("spoil", [Path.touch, lambda path: (path / "x").mkdir(parents=True)], ids=["file", "folders"])
def test_where_nothing_can_be_kept_nothing_is(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    """The folder is a file, or the file a folder."""
    first = table(tmp_path / "cache")
    assert first.file is not None
    spoil(first.file.parent if spoil is Path.touch else first.file)
    timed(first, two())
    first.keep()
    assert table(tmp_path / "cache").known == {}


def test_without_a_folder_times_are_for_this_run() -> None:
    known = table()
    timed(known, two())
    known.keep()
    assert len(known.known) == 1
    assert table().known == {}


def test_conversions_at_the_edges_are_told_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Quantizing x serves both layers, and is divided; each decodes what it gives alone. Each kernel takes 100 us."""
    monkeypatch.setattr(times, "read_events", lambda raw: [{**event, "dur": 100} for event in read_events(raw)])
    stored = {"s": np.float32(0.05), "s2": np.float32(0.5), "t": np.float32(0.01)}
    codes = {"zero": np.uint8(128), "none": np.int8(0), **dict.fromkeys(("cy", "cz"), np.ones((64, 64), np.int8))}
    model, feeds = model_of(INTEGERS, **stored, **codes), {"x": noise(16, 64)}
    both = table().of(model, feeds, [("y",), ("z",)])
    np.testing.assert_allclose(both.edges, 150e-6)
    np.testing.assert_allclose(both.kernels, 100e-6)  # QLinearMatMul
    together = table().of(model, feeds, [("y", "z")])
    np.testing.assert_allclose([together.edges, together.kernels], [[300e-6], [200e-6]])
