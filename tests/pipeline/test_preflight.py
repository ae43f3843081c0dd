"""Before any work: everything that can be known to be wrong is told in one error, each with its place in the recipe."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest

from compress_ops.errors import Faults, OnnxpressError, OutputError
from compress_ops.passes import Change, Context, Model, Promise, register
from compress_ops.pipeline import Job, plan, run
from compress_ops.pipeline import preflight as module
from tests.helpers import SAMPLES

MakeJob = Callable[..., Job]
Listing = Callable[[], dict[str, bytes]]
MATRIX = "passes: [simplify]"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """20 samples of the linear model's input."""
    np.savez(tmp_path / "data.npz", x=np.random.default_rng(0).normal(size=(20, 64)).astype(np.float32))
    return tmp_path / "data.npz"


@pytest.fixture
def told(listing: Listing) -> Callable[[Job], list[str]]:
    """The first line of each fault of a job that must fail before any work, leaving no trace."""

    def tell(job: Job) -> list[str]:
        before = listing()
        with pytest.raises(OnnxpressError) as raised:
            run(job)
        assert listing() == before
        found = raised.value.faults if isinstance(raised.value, Faults) else [raised.value]
        assert not any(isinstance(fault, Faults) for fault in found)
        return [str(fault).partition("\n")[0] for fault in found]

    return tell


Told = Callable[[Job], list[str]]


def test_faults_of_every_kind_are_told_together(job: MakeJob, told: Told, tmp_path: Path, data: Path) -> None:
    worked = []

    def work(model: Model, ctx: Context) -> Change:
        """Work."""
        worked.append(model)
        return Change()

    text = """\
data:
  calibration: nowhere.npz
  evaluation:
    path: data.npz
    metrics: [top1, f11]
measure: {dims: {m: 3}, values: {y: 1}}
passes:
  - work
  - prune_weights: {ratio: 0.5, only: [MatMul, /nothing], skip: "Cnv"}
  - quantize_static: {only: product}
  - learn
budget: {min_speedup: 2, max_drop: 2%}
"""
    learn = register("learn", promises=Promise.SHRINKS, needs={module.Need.TRAINING})(work)
    made = job(
        text.replace("calibration: nowhere.npz", "batch_size: 4"),
        register("work", promises=Promise.SHRINKS)(work),
        learn,
        folder=tmp_path,
        out=tmp_path / "none" / "out.onnx",
    )
    assert told(made) == [
        f"the folder {tmp_path / 'none'} does not exist",
        "r.yaml:6:14: metrics need labels",
        "r.yaml:6:21: unknown metric 'f11'; did you mean 'f1'?",
        "r.yaml:7:21: the model has no dimension named 'm'",
        "r.yaml:7:37: the model has no input named 'y'",
        f"r.yaml:10:48: only pattern '/nothing' matches no node of {made.model}",
        f"r.yaml:10:65: skip pattern 'Cnv' matches no node of {made.model}",
        "r.yaml:11:5: quantize_static needs calibration data",
        "r.yaml:12:5: learn needs training data",
        "r.yaml:13:23: min_speedup asks for what --no-measure does not measure",
        "r.yaml:13:36: max_drop asks for what --no-measure does not measure",
    ]
    assert worked == []


def test_missing_data_is_told_at_the_line_that_names_it(job: MakeJob, told: Told, tmp_path: Path, data: Path) -> None:
    text = "data:\n  calibration: dat.npz\n  training: no/\n  evaluation: {path: x.npz, labels: label}\n" + MATRIX
    first, second, third = told(job(text, folder=tmp_path))
    assert first.startswith("r.yaml:3:16: dat.npz: ") and "not" in first
    assert second.startswith("r.yaml:4:13: no/: the data does not exist")
    assert third.startswith("r.yaml:5:22: x.npz: ")


def test_data_that_does_not_fit_is_told_at_the_line_that_names_it(job: MakeJob, told: Told, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", y=np.zeros((4, 64), np.float32), z=np.zeros((5, 3)))
    text = "data:\n  evaluation: a.npz\n" + MATRIX
    faults = told(job(text, folder=tmp_path))
    assert len(faults) == 3 and all(fault.startswith("r.yaml:3:15: a.npz: ") for fault in faults)
    assert any("'x'" in fault and "missing" in fault for fault in faults)


def test_evaluation_alone_needs_its_labels(job: MakeJob, told: Told, tmp_path: Path, data: Path) -> None:
    text = "data:\n  calibration: data.npz\n  evaluation: {path: data.npz, labels: label, metrics: [top1]}\n" + MATRIX
    (fault,) = told(job(text, folder=tmp_path))
    assert fault == "r.yaml:4:22: data.npz: there is no labels array 'label'"


def test_faults_of_the_steps_are_told_with_those_of_everything_else(told: Told, linear: Path, tmp_path: Path) -> None:
    from compress_ops.recipe import read_recipe

    path = tmp_path / "r.yaml"
    path.write_text("""\
version: 1
provider: cdua
data: {calibration: none.npz}
passes:
  - prune_weigh
  - quantize_static: {skip: nothing, per_chanel: true}
budget: {max_drop: 1%}
""")
    loaded = read_recipe(path)
    assert loaded.recipe.passes == []
    assert told(Job(loaded, linear, tmp_path / "none" / "out.onnx")) == [
        f"the folder {tmp_path / 'none'} does not exist",
        f"{path}:2:11: unknown execution provider 'cdua'; did you mean 'cuda'?",
        f"{path}:3:21: none.npz: the data does not exist",
        f"{path}:5:5: unknown pass 'prune_weigh'; did you mean 'prune_weights'?",
        f"{path}:6:38: unknown option 'per_chanel'; did you mean 'per_channel'?",
        f"{path}:7:20: max_drop needs evaluation data and a metric",
    ]


@pytest.mark.parametrize("source", ["photos", "user:mine:samples"])
def test_data_that_brings_its_own_labels_needs_no_name_for_them(job: MakeJob, tmp_path: Path, source: str) -> None:
    from PIL import Image

    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        Image.new("L", (8, 8)).save(tmp_path / "photos" / name / "a.png")
    (tmp_path / "mine.py").write_text(
        "import numpy as np\ndef samples():\n    yield {'image': np.ones((2, 1, 8, 8), np.float32)}, np.array([1, 0])\n"
    )
    images = "images: {resize: [8, 8], channels: grey}"
    text = f"data: {{evaluation: {{path: '{source}', metrics: [top1]}}, {images}}}\npasses: [quantize_dynamic]"
    made = job(text, folder=tmp_path, model=SAMPLES / "digits-cnn.onnx", measure=True, allow_code=True)
    report = run(made)
    assert report.comparison is not None and not isinstance(report.comparison.accuracy, str)
    assert report.comparison.accuracy.samples == 2


def test_data_that_might_bring_labels_must_bring_them_for_metrics(job: MakeJob, told: Told, tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "photos").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "photos" / "a.png")
    (tmp_path / "bare.py").write_text(
        "import numpy as np\ndef samples():\n    yield {'image': np.ones((1, 1, 8, 8), np.float32)}\n"
    )
    options = {"folder": tmp_path, "model": SAMPLES / "digits-cnn.onnx", "allow_code": True}
    for source, fault in (("photos", "the images have no labels"), ("user:bare:samples", "the samples have no labels")):
        images = "images: {resize: [8, 8], channels: grey}"
        scored = f"data: {{evaluation: {{path: '{source}', metrics: [top1]}}, {images}}}\n{MATRIX}"
        assert told(job(scored, **options)) == [f"r.yaml:2:27: {source}: {fault}"]
        plan(job(scored.replace(", metrics: [top1]", ""), **options))


def test_made_up_data_brings_no_labels(job: MakeJob, told: Told) -> None:
    (fault,) = told(job(f"data: {{evaluation: {{path: random, metrics: [top1]}}}}\n{MATRIX}"))
    assert fault == "r.yaml:2:44: metrics need labels"


@pytest.mark.parametrize("source", ["no-images", "no.npz"])
def test_data_that_is_missing_is_not_said_to_lack_labels(job: MakeJob, told: Told, source: str) -> None:
    (fault,) = told(job(f"data: {{evaluation: {{path: {source}, metrics: [top1]}}}}\n{MATRIX}"))
    assert fault == f"r.yaml:2:27: {source}: the data does not exist"


def test_missing_data_beside_other_faults(job: MakeJob, told: Told, tmp_path: Path) -> None:
    text = "data: {calibration: none.npz}\npasses:\n  - quantize_static: {skip: nothing}\nprovider: cdua"
    first, second, third = told(job(text, folder=tmp_path))
    assert first.startswith("r.yaml:2:21: none.npz: ")
    assert second.startswith("r.yaml:4:29: skip pattern 'nothing' matches no node")
    assert third == "r.yaml:5:11: unknown execution provider 'cdua'; did you mean 'cuda'?"


def test_data_given_by_a_flag_is_not_blamed_on_the_recipe(job: MakeJob, told: Told, tmp_path: Path) -> None:
    from dataclasses import replace

    made = job(f"data: {{calibration: a.npz}}\n{MATRIX}", folder=tmp_path)
    section = made.recipe.data.model_copy(update={"calibration": str(tmp_path / "flag.npz")})
    recipe = made.recipe.model_copy(update={"data": section})
    (fault,) = told(replace(made, loaded=replace(made.loaded, recipe=recipe)))
    assert fault.startswith(str(tmp_path / "flag.npz"))


def test_a_provider_given_by_a_flag_is_not_blamed_on_the_recipe(job: MakeJob, told: Told) -> None:
    from dataclasses import replace

    from compress_ops.runtime import Provider

    made = job(f"provider: cpu\n{MATRIX}")
    recipe = made.recipe.model_copy(update={"provider": [Provider("cdua")]})
    (fault,) = told(replace(made, loaded=replace(made.loaded, recipe=recipe)))
    assert fault == "unknown execution provider 'cdua'; did you mean 'cuda'?"


def test_training_data_is_calibration_data_where_none_is_given(job: MakeJob, tmp_path: Path, data: Path) -> None:
    seen = []

    def learn(model: Model, ctx: Context) -> Change:
        """Learn."""
        seen.append(ctx.training)
        return Change()

    learner = register("learn", promises=Promise.PREPARES, needs={module.Need.TRAINING})(learn)
    run(job("data: {calibration: data.npz}\npasses: [learn]", learner, folder=tmp_path))
    assert seen[0] is not None and len(seen[0]) == 20


def test_max_drop_needs_a_metric(job: MakeJob, told: Told) -> None:
    assert told(job(MATRIX + "\nbudget: {max_drop: 1%}", measure=True)) == [
        "r.yaml:3:20: max_drop needs evaluation data and a metric"
    ]


def test_a_budget_on_the_size_needs_no_measurement(job: MakeJob) -> None:
    (verdict,) = run(job("passes: [quantize_dynamic]\nbudget: {max_size: 90%}")).verdicts
    assert (verdict.limit, verdict.verdict) == ("max_size", "met")


def test_a_missed_budget_is_written_and_told(job: MakeJob) -> None:
    report = run(job("passes: [quantize_dynamic]\nbudget: {max_size: 1 kB}"))
    assert [verdict.verdict for verdict in report.verdicts] == ["missed"] and report.out.is_file()


@pytest.mark.parametrize("content", [None, b"", b"not a model", b"\x08\x09" * 30])
def test_a_model_that_cannot_be_read_is_told_with_the_recipes_own_faults(
    job: MakeJob, told: Told, tmp_path: Path, content: bytes | None
) -> None:
    model = tmp_path / "bad.onnx"
    if content is not None:
        model.write_bytes(content)
    first, second = told(job("passes: [quantize_static]", model=model))
    assert first.startswith(str(model))
    assert second == "r.yaml:2:10: quantize_static needs calibration data"


def test_a_model_that_onnxruntime_refuses_is_told_once(job: MakeJob, told: Told, tmp_path: Path) -> None:
    text = (
        '<ir_version: 8, opset_import: ["": 17]> g (float[n,64] x) => (float[n,64] y) { y = Pow(x, x) z = And(x, y) }'
    )
    onnx.save(onnx.parser.parse_model(text), tmp_path / "bad.onnx")
    (fault,) = told(job(MATRIX, model=tmp_path / "bad.onnx"))
    assert "onnxruntime refuses" in fault and "And" in fault


def test_a_provider_that_does_not_start_is_known_before_any_work(
    job: MakeJob, told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A provider may be listed and yet not start. The data is checked all the same."""
    from compress_ops.errors import ProviderError
    from compress_ops.runtime import open_session

    def fall_back(model: Path, providers: object = None, **options: object) -> object:
        if providers is not None and providers[0].name == "azure":  # type: ignore[index]
            raise ProviderError("onnxruntime fell back from 'azure' to 'cpu'")
        return open_session(model, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "open_session", fall_back)
    monkeypatch.setattr(module, "check_providers", lambda providers: [])
    text = "provider: [azure, cpu]\ndata: {calibration: none.npz}\npasses: [quantize_static]"
    first, second = told(job(text, folder=tmp_path))
    assert first == "r.yaml:2:11: onnxruntime fell back from 'azure' to 'cpu'"
    assert second.startswith("r.yaml:3:21: none.npz")


# Outputs


def test_an_existing_output_is_not_replaced_unless_forced(job: MakeJob, told: Told, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    out.write_bytes(b"old")
    assert told(job(MATRIX)) == [f"{out} exists already"]
    run(job(MATRIX, force=True))
    onnx.checker.check_model(onnx.load(out))


@pytest.mark.parametrize("force", [False, True])
def test_an_output_that_is_a_folder(job: MakeJob, told: Told, tmp_path: Path, force: bool) -> None:
    assert told(job(MATRIX, out=tmp_path, force=force)) == [f"{tmp_path} is a folder; name the file to write"]


def test_an_output_whose_parent_is_a_file(job: MakeJob, told: Told, linear: Path) -> None:
    (fault,) = told(job(MATRIX, out=linear / "out.onnx"))
    assert fault.startswith(f"the folder {linear} ")


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs Linux: a folder that even root cannot write to")
def test_an_output_that_cannot_be_written(job: MakeJob) -> None:
    with pytest.raises(OutputError):
        run(job(MATRIX, out=Path("/proc/out.onnx")))


def test_a_full_disk_leaves_the_old_output(
    job: MakeJob, listing: Listing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    import onnx_ir

    def full(model: object, path: Path, *options: object) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "out.onnx").write_bytes(b"old")
    before = listing()
    monkeypatch.setattr(onnx_ir, "save", full)
    with pytest.raises(OutputError, match="No space left on device"):
        run(job(MATRIX, force=True))
    assert listing() == before


def test_a_plan_needs_no_output(job: MakeJob, listing: Listing) -> None:
    before = listing()
    (step,) = plan(job("passes: [quantize_dynamic]", out=None))
    assert step.touched and listing() == before


def test_a_run_needs_an_output(job: MakeJob) -> None:
    with pytest.raises(OnnxpressError, match="output path"):
        run(job(MATRIX, out=None))


def test_the_same_fault_in_two_steps_is_told_at_both(job: MakeJob, told: Told) -> None:
    faults = told(job("passes:\n  - quantize_static\n  - quantize_static"))
    assert [fault.split(" ")[0] for fault in faults] == ["r.yaml:3:5:", "r.yaml:4:5:"]
