"""A run from end to end: what is written, what is measured, what the report says, and what an interruption leaves."""

import json
from collections.abc import Callable, Iterable
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import onnxruntime
import pytest

from compress_ops.data import Dataset
from compress_ops.errors import OnnxpressError
from compress_ops.measure import comparison
from compress_ops.model import Model
from compress_ops.passes import Change, Context, Need, Promise, register
from compress_ops.pipeline import Job, plan, run
from compress_ops.report.report import Report
from tests.helpers import SAMPLES

MakeJob = Callable[..., Job]
Listing = Callable[[], dict[str, bytes]]
STATIC = """\
data:
  calibration: digits-calibration.npz
  evaluation: {path: digits-test.npz, labels: label, metrics: [top1, f1]}
passes: [simplify, quantize_static]
budget: {max_size: 30%, max_drop: 5%, min_speedup: 0.01}
"""


def _metadata(path: Path) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """digits-cnn to int8, measured, once for all tests that look at the report."""
    from compress_ops.recipe import parse_recipe

    folder = SAMPLES
    loaded = parse_recipe(f"version: 1\n{STATIC}measure: {{seconds: 0.05}}\n", "r.yaml", folder=folder)
    return run(Job(loaded, folder / "digits-cnn.onnx", tmp_path_factory.mktemp("digits") / "small.onnx"))


def test_a_real_model_gets_small_and_keeps_its_accuracy(digits: Report, samples: Path) -> None:
    """Scored here by hand: neither sizes nor accuracy are taken from the report."""
    data = np.load(samples / "digits-test.npz")
    name = onnxruntime.InferenceSession(digits.out).get_inputs()[0].name
    right = []
    for path in (digits.model, digits.out):
        (scores,) = onnxruntime.InferenceSession(path).run(None, {name: data[name]})[:1]
        right.append(float((scores.argmax(axis=-1) == data["label"]).mean()))
    assert digits.out.stat().st_size < 0.3 * digits.model.stat().st_size
    assert right[1] > right[0] - 0.03 > 0.9
    top1 = digits.comparison.accuracy.metrics["top1"].models
    assert [top1["original"].value, top1["result"].value] == pytest.approx(right)


def test_the_report_tells_sizes_times_and_verdicts(digits: Report) -> None:
    assert (digits.bytes_before, digits.bytes_after) == (digits.model.stat().st_size, digits.out.stat().st_size)
    assert [verdict.verdict for verdict in digits.verdicts] == ["met", "met", "met"]
    assert digits.comparison.models == {"original": str(digits.model), "result": str(digits.out)}
    assert 0 < sum(step.seconds for step in digits.steps) < digits.seconds
    assert digits.cpu_seconds > 0 and digits.peak_memory_bytes > 10**7
    assert digits.comparison.latency.models["result"].ratio > 0


def test_the_resolved_recipe_holds_every_default(digits: Report) -> None:
    assert digits.recipe["version"] == 1 and digits.recipe["provider"] == ["cpu"]
    assert (digits.recipe["threads"], digits.recipe["seed"], digits.recipe["data"]["batch_size"]) == (1, 0, 16)
    assert digits.recipe["measure"] == {"batch": 1, "dims": {}, "shapes": {}, "values": {}, "seconds": 0.05}
    for entry, step in zip(digits.recipe["passes"], digits.steps, strict=True):
        from compress_ops.catalogue import PASSES

        ((name, options),) = entry.items()
        assert name == step.name and set(options) >= set(PASSES[name].options.model_fields)


def test_hashes_are_those_of_the_files(digits: Report, samples: Path) -> None:
    import hashlib

    assert digits.hashes["model"] == hashlib.sha256((samples / "digits-cnn.onnx").read_bytes()).hexdigest()
    assert set(digits.hashes) == {"model", "calibration", "evaluation"}
    assert len(set(digits.hashes.values())) == 3


def test_the_model_says_what_it_was_made_from(digits: Report) -> None:
    found = _metadata(digits.out)
    assert found["onnxpress.parent"] == digits.hashes["model"]
    assert len(found["onnxpress.recipe"]) == 64


def test_the_report_is_plain_json(digits: Report, tmp_path: Path) -> None:
    document = digits.plain(tmp_path)
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert document["steps"][1]["touched"] and document["environment"]["threads"] == 1


def test_paths_in_the_report_lead_from_where_it_lies(digits: Report, tmp_path: Path) -> None:
    beside = tmp_path / "deep" / "down"
    beside.mkdir(parents=True)
    document = digits.plain(beside)
    written = [document["model"], document["out"], document["recipe"]["model"]]
    data = document["recipe"]["data"]
    written += [data["calibration"], data["evaluation"]["path"]]
    assert all(not Path(path).is_absolute() and (beside / path).is_file() for path in written)
    assert (beside / written[0]).samefile(digits.model) and (beside / written[1]).samefile(digits.out)


def test_sources_that_are_no_paths_stay_as_they_are(digits: Report, tmp_path: Path) -> None:
    from dataclasses import replace

    (tmp_path / "random").mkdir()  # data called random is made up all the same
    data = {"calibration": "random", "training": {"path": "user:module:function"}}
    report = replace(digits, recipe={**digits.recipe, "data": data}, folder=tmp_path)
    assert report.plain(tmp_path / "elsewhere")["recipe"]["data"] == data


def test_plain_makes_json_of_what_passes_note() -> None:
    from dataclasses import dataclass

    from compress_ops.report.report import plain

    @dataclass
    class Note:
        value: Any

    noted = {
        "array": np.arange(3),
        "float32": np.float32(0.5),
        "int": np.int64(7),
        "bool": np.bool_(True),
        "nan": float("nan"),
        "nans": np.array([1.0, np.inf]),
        "path": Path("a") / "b",
        "promise": Promise.SHRINKS,
        "note": Note((1, None)),
        3: {"x": [Note(True)]},
    }
    assert json.loads(json.dumps(plain(noted), allow_nan=False)) == {
        "array": [0, 1, 2],
        "float32": 0.5,
        "int": 7,
        "bool": True,
        "nan": None,
        "nans": [1.0, None],
        "path": "a/b",
        "promise": "shrinks",
        "note": {"value": [1, None]},
        "3": {"x": [{"value": True}]},
    }


def test_nothing_is_measured_where_nobody_asks(job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("compare_latency", "evaluate", "compare_fidelity"):
        monkeypatch.delattr(comparison, name)
    report = run(job("passes: [quantize_dynamic]", measure=False))
    assert report.comparison is None and report.bytes_after < report.bytes_before


def test_without_data_the_rest_is_measured(job: MakeJob) -> None:
    report = run(job("passes: [quantize_dynamic]", measure=True))
    assert report.comparison.accuracy.startswith("not measured: ")
    assert report.comparison.feed.source == "synthetic"
    assert report.comparison.fidelity.models["result"]["y"].cosine > 0.99


def test_only_the_result_is_written(job: MakeJob, listing: Listing, tmp_path: Path) -> None:
    before = listing()
    run(job("passes: [simplify, quantize_dynamic]", measure=True))
    after = listing()
    assert set(after) - set(before) == {str(tmp_path / "out.onnx")}
    assert {path: after[path] for path in before} == before


def test_nothing_is_left_in_the_working_or_temporary_folder(
    job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tempfile

    for name in ("work", "temporary"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    run(job("passes: [simplify, quantize_dynamic]", measure=True, check_steps=True))
    assert list((tmp_path / "work").iterdir()) == list((tmp_path / "temporary").iterdir()) == []


def test_constants_that_the_graph_generates_count_on_both_sides(job: MakeJob, tmp_path: Path) -> None:
    """400 x 64 floats from a few bytes: storing them is no growth."""
    text = """<ir_version: 8, opset_import: ["": 17]>
    g (float[n,400] x) => (float[n,64] y) <int64[2] shape = {400, 64}> {
        w = ConstantOfShape <value = float[1] {0.5}> (shape) y = MatMul(x, w) }"""
    onnx.save(onnx.parser.parse_model(text), tmp_path / "generated.onnx")
    report = run(
        job(
            "passes: [simplify, prune_weights: {threshold: 0.1, allow_unchanged: true}]",
            model=tmp_path / "generated.onnx",
        )
    )
    stored = 400 * 64 * 4
    assert stored < report.bytes_before < stored + 300
    assert stored < report.bytes_after == report.out.stat().st_size < stored + 600


# Dry runs, progress, seeds


def _counting(counts: list[int]) -> Any:
    def count(model: Model, ctx: Context) -> Change:
        """Count the calibration samples."""
        counts.append(sum(len(next(iter(feeds.values()))) for feeds in ctx.calibration_batches("count")))
        return Change()

    return register("count", promises=Promise.PREPARES, needs={Need.CALIBRATION})(count)


def test_a_plan_writes_nothing_and_looks_at_one_batch(job: MakeJob, listing: Listing, samples: Path) -> None:
    counts: list[int] = []
    text = "data: {calibration: digits-calibration.npz, batch_size: 8}\npasses: [count]"
    model = samples / "digits-cnn.onnx"
    everything = len(np.load(samples / "digits-calibration.npz")["image"])
    before = listing()
    plan(job(text, _counting(counts), model=model, out=None))
    plan(job(text, _counting(counts), model=model))
    assert listing() == before
    run(job(text, _counting(counts), model=model))
    assert counts == [8, 8, everything] and everything > 8


def test_a_plan_says_what_each_step_would_touch(job: MakeJob) -> None:
    first, second = plan(job("passes: [simplify, quantize_dynamic: {skip: Relu}]", out=None))
    assert (first.name, first.touched) == ("simplify", {})
    assert list(second.touched) == ["product"] and second.bytes_after < second.bytes_before


def test_work_can_be_watched(job: MakeJob, samples: Path) -> None:
    seen: dict[str, list[int | None]] = {}

    def watch(items: Iterable[Any], label: str, total: int | None = None) -> Iterable[Any]:
        seen.setdefault(label, []).append(total)
        return items

    run(job(STATIC, model=samples / "digits-cnn.onnx", progress=watch, measure=True))
    assert seen["passes"] == [2]
    assert len(seen) >= 4, "passes, calibration, and the parts of the measurement"


def _noisy() -> Any:
    def add_noise(model: Model, ctx: Context) -> Change:
        """Add noise to every weight."""
        change = Change()
        for weight in model.weights():
            noise = ctx.rng.normal(size=weight.shape.numpy()).astype(np.float32)
            weight.const_value = ir.tensor(weight.const_value.numpy() + noise, name=weight.name)
            change.touch(weight.name, "noise")
        return change

    return register("noise", promises=Promise.IMPROVES)(add_noise)


def test_runs_repeat_with_the_same_seed_alone(job: MakeJob, tmp_path: Path) -> None:
    made = {}
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        out = run(job(f"seed: {seed}\npasses: [noise]", _noisy(), out=tmp_path / name)).out
        made[name] = out.read_bytes()
    assert made["a"] == made["b"] != made["c"]


def test_measuring_and_watching_do_not_change_the_result(job: MakeJob, tmp_path: Path) -> None:
    results = [
        run(job("passes: [noise]", _noisy(), out=tmp_path / str(number), **options)).out.read_bytes()
        for number, options in enumerate([{}, {"measure": True}, {"check_steps": True}])
    ]
    assert results[0] == results[1] == results[2]


def _digest(job: Job) -> str:
    return _metadata(run(job).out)["onnxpress.recipe"]


def test_the_digest_in_the_model_stands_for_recipe_seed_and_data(job: MakeJob, samples: Path, tmp_path: Path) -> None:
    data = "data: {calibration: digits-calibration.npz}\n"
    texts = {
        "plain": "passes: [quantize_dynamic]",
        "same, spelled out": "# said at length\npasses:\n  - quantize_dynamic: {per_channel: true}\nthreads: 1",
        "other option": "passes: [quantize_dynamic: {per_channel: false}]",
        "other seed": "seed: 1\npasses: [quantize_dynamic]",
        "other data": data + "passes: [quantize_dynamic]",
        "other order": "passes: [quantize_dynamic, simplify]",
    }
    model = samples / "digits-mlp.onnx"
    found = {name: _digest(job(text, model=model, out=tmp_path / name)) for name, text in texts.items()}
    assert found["plain"] == found.pop("same, spelled out")
    assert len(set(found.values())) == len(found)
    assert _digest(job(texts["plain"], out=tmp_path / "other model")) not in found.values()


def test_the_digest_knows_no_paths(job: MakeJob, linear: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "copy.onnx"
    elsewhere.write_bytes(linear.read_bytes())
    first = _digest(job("passes: [quantize_dynamic]", out=tmp_path / "a"))
    assert _digest(job("passes: [quantize_dynamic]", model=elsewhere, out=tmp_path / "b")) == first


def test_what_a_pass_chose_is_in_the_resolved_recipe(job: MakeJob) -> None:
    def choose(model: Model, ctx: Context, *, skip: list[str] = [], ratio: float | None = None) -> Change:  # noqa: B006
        """Choose."""
        return Change(chosen={"ratio": 0.25, "skip": ["product"]})

    report = run(job("passes: [choose]", register("choose", promises=Promise.PREPARES)(choose)))
    options = report.recipe["passes"][0]["choose"]
    assert options == {
        "allow_unchanged": False,
        "allow_larger": False,
        "allow_undone": False,
        "skip": ["product"],
        "ratio": 0.25,
    }
    assert report.steps[0].options == options


def test_batches_cover_the_data_once(samples: Path) -> None:
    """The premise of the count above: no sample is lost at the end."""
    from compress_ops.data import DataSettings, open_data
    from compress_ops.runtime import open_session

    data: Dataset = open_data(
        samples / "digits-calibration.npz",
        open_session(samples / "digits-cnn.onnx").inputs,
        DataSettings(batch_size=7),
    )
    batches = [batch.size for batch in data.batches()]
    assert sum(batches) == len(data) and len(batches) == ceil(len(data) / 7)


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """y = x w / temperature, where w and temperature are inputs with a default."""
    made = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (float[n,64] x, float[64,64] w, float temperature)'
        " => (float[n,64] y) { h = MatMul(x, w) y = Div(h, temperature) }"
    )
    weight = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    for name, array in {"w": weight, "temperature": np.array(1, np.float32)}.items():
        made.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    onnx.save(made, tmp_path / "listed.onnx")
    return tmp_path / "listed.onnx"


def test_what_lies_in_defaults_is_told_and_dropped_when_asked(job: MakeJob, listed: Path, tmp_path: Path) -> None:
    with pytest.raises(OnnxpressError, match=r"2 inputs with a default.*--drop-default-inputs"):
        run(job("passes: [quantize_dynamic]", model=listed))
    report = run(job("drop_default_inputs: true\npasses: [quantize_dynamic]", model=listed))
    assert report.bytes_after < 0.4 * report.bytes_before
    assert report.notes[-1] == "2 inputs with a default became weights; callers feed them no longer."
    assert [value.name for value in onnx.load(tmp_path / "out.onnx").graph.input] == ["x"]
    assert report.recipe["drop_default_inputs"] is True


def test_data_may_feed_an_input_with_a_default(job: MakeJob, listed: Path, tmp_path: Path) -> None:
    x = np.random.default_rng(1).normal(size=(8, 64)).astype(np.float32)
    (tmp_path / "feeds").mkdir()
    for number in (1, 2):
        np.savez(tmp_path / "feeds" / f"{number}.npz", x=x, temperature=np.array(number, np.float32))
    text = "data: {evaluation: feeds}\npasses: [simplify]"
    report = run(job(text, model=listed, folder=tmp_path, measure=True))
    assert report.comparison.fidelity.models["result"]["y"].identical
