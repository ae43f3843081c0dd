"""onnxpress distill: the recipe that it stands for, what it writes, how it resumes, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml
from onnx import numpy_helper

from compress_ops.runtime import open_session
from tests.distill.student_case import breaking_off

from .conftest import Call


@pytest.fixture
def student(model: Path, tmp_path: Path) -> Path:
    """The model, its weights disturbed."""
    proto = onnx.load(model)
    rng = np.random.default_rng(5)
    for weight in proto.graph.initializer:
        disturbed = numpy_helper.to_array(weight) + 0.5 * rng.standard_normal(list(weight.dims))
        weight.CopyFrom(numpy_helper.from_array(disturbed.astype(np.float32), weight.name))
    onnx.save(proto, tmp_path / "student.onnx")
    return tmp_path / "student.onnx"


@pytest.fixture
def data(tmp_path: Path, model: Path) -> Path:
    """200 samples that lie in three dimensions of the 32, so that few of them teach much; labels as the model says."""
    rng = np.random.default_rng(1)
    x = (rng.standard_normal((200, 3)) @ rng.standard_normal((3, 32)) / 3).astype(np.float32)
    label = open_session(model).run({"x": x})["scores"].argmax(1)
    np.savez(tmp_path / "data.npz", x=x, label=label)
    return tmp_path / "data.npz"


@pytest.fixture
def flags(model: Path, data: Path) -> list[object]:
    return ["--teacher", model, "--data", data, "--labels", "label", "--evaluation", data]


def shown(call: Call, *given: object) -> dict[str, object]:
    result = call("distill", *given, "--show-recipe")
    assert result.exit_code == 0, result.stderr
    return yaml.safe_load(result.stdout)


def test_what_it_stands_for(call: Call, student: Path, model: Path, data: Path) -> None:
    plain = shown(call, student, "--teacher", model, "--data", data, "--labels", "label")
    assert plain["passes"] == [{"distill": {"teacher": str(model)}}]
    assert plain["data"] == {"training": {"path": str(data), "labels": "label"}}
    more = ["--epochs", 3, "--learning-rate", 0.01, "--temperature", 4, "--loss", "kl=0.5", "--loss", "mse"]
    options = shown(call, student, "--teacher", model, "--data", data, *more)["passes"][0]["distill"]
    assert options | {"teacher": ""} == {
        "teacher": "",
        "epochs": 3,
        "learning_rate": 0.01,
        "temperature": 4.0,
        "loss": {"kl": 0.5, "mse": 1.0},
    }
    preset = shown(call, student, "--teacher", model, "--data", data, "--loss", "soft+hard", "--baseline")
    assert preset["passes"][0]["distill"] == {"teacher": str(model), "loss": "soft+hard", "baseline": "scratch"}


def test_the_student_learns(call: Call, student: Path, flags: list[object], out: Path) -> None:
    taught = ["--epochs", 20, "--json", "--set", "measure.seconds=0.05", "--set", "budget.max_drop=10%"]
    result = call("distill", student, "-o", out, *flags, *taught)
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    models = report["comparison"]["accuracy"]["metrics"]["top1"]["models"]
    assert models["result"]["value"] > models["original"]["value"] + 0.1
    course = report["steps"][0]["notes"]["held-out loss by epoch"]
    assert len(course) == 20 and course[-1] < course[0]
    assert [path.name for path in out.parent.glob("*checkpoint*")] == []


def test_the_limits_are_about_the_teacher(call: Call, student: Path, model: Path, data: Path) -> None:
    """Of its metric where one is given, else of closeness; nothing is held where nothing is measured."""
    taught = ["--teacher", model, "--data", data]
    scored = [*taught, "--labels", "label", "--evaluation", data]
    assert shown(call, student, *scored)["budget"] == {"max_drop": "5%", "against": str(model)}
    for unscored in (taught, [*taught, "--labels", "label"], [*taught, "--evaluation", data]):
        assert shown(call, student, *unscored)["budget"] == {"min_closeness": 0.9, "against": str(model)}
    assert "budget" not in shown(call, student, *scored, "--no-measure")


SHORT = ["--epochs", 1, "--learning-rate", 1e-5, "--set", "measure.seconds=0.05"]


def test_a_student_that_learned_too_little_is_status_1(
    call: Call, student: Path, model: Path, data: Path, flags: list[object], out: Path
) -> None:
    """It is better than it was, and as close to what it was as can be: the teacher is what counts."""
    taught = ["--teacher", model, "--data", data, "--labels", "label"]
    near = call("distill", student, "-o", out, *taught, *SHORT)
    assert near.exit_code == 1 and out.exists(), near.stderr
    assert "budget missed: closeness to model.onnx 0." in (told := " ".join(near.stdout.split()))
    assert "Might help: more --epochs" in told and "might help: more --epochs" in near.stderr
    scored = call("distill", student, "-o", out, "--force", *flags, *SHORT)
    assert scored.exit_code == 1
    assert "budget missed: drop from model.onnx" in " ".join(scored.stdout.split())


def test_outputs_are_held_against_those_they_are_matched_with(
    call: Call, student: Path, model: Path, data: Path, out: Path
) -> None:
    proto = onnx.load(model)
    proto.graph.node[-1].output[0] = proto.graph.output[0].name = "renamed"
    onnx.save(proto, out.parent / "renamed.onnx")
    flags = ["--teacher", out.parent / "renamed.onnx", "--data", data, "--labels", "label", "--epochs", 30]
    flags += ["--learning-rate", 0.01, "--set", "measure.seconds=0.05"]
    matched = [*flags, "--set", "passes.0.distill.match={scores: renamed}"]
    result = call("distill", student, "-o", out, *matched, "--report", out.parent / "r.json")
    assert result.exit_code == 0, result.stderr
    (verdict,) = json.loads((out.parent / "r.json").read_text())["verdicts"]
    ours, theirs = (open_session(path).run({"x": np.load(data)["x"]}) for path in (out, out.parent / "renamed.onnx"))
    a, b = theirs["renamed"].astype(float), ours["scores"].astype(float)
    likeness = np.mean(1 - np.square(a - b).sum(1) / (2 * np.square(a).sum(1)))
    assert 0.9 <= float(verdict["measured"].partition(",")[0]) <= likeness + 1e-6
    again = call("run", out.parent / "r.json", "-o", out.parent / "again.onnx")
    assert again.exit_code == 0 and (out.parent / "again.onnx").read_bytes() == out.read_bytes()
    unmatched = call("distill", student, "-o", out, "--force", *flags)
    assert unmatched.exit_code == 2
    assert "against: renamed.onnx has no output 'scores' to compare with" in unmatched.stderr


def test_the_report_shows_the_course_and_replays(call: Call, student: Path, flags: list[object], out: Path) -> None:
    """The teacher's path is told from where the report lies; which path it is makes no other bytes."""
    (out.parent / "reports").mkdir()
    reports = [out.parent / "reports" / f"r.{kind}" for kind in ("json", "md")]
    asked = [word for path in reports for word in ("--report", path)]
    result = call("distill", student, "-o", out, *flags, "--no-measure", *asked)
    assert result.exit_code == 0, result.stderr
    assert "held-out loss by epoch" in result.stdout and "Training" in reports[1].read_text()
    teacher = json.loads(reports[0].read_text())["recipe"]["passes"][0]["distill"]["teacher"]
    assert not Path(teacher).is_absolute() and (reports[0].parent / teacher).is_file()
    again = out.parent / "again.onnx"
    result = call("run", reports[0], "-o", again, "--no-measure")
    assert result.exit_code == 0, result.stderr
    assert again.read_bytes() == out.read_bytes()


def test_an_interrupted_run_is_resumed_bit_for_bit(call: Call, student: Path, flags: list[object], out: Path) -> None:
    command = ["distill", student, *flags, "--no-measure", "--learning-rate", 0.001]
    command += ["--set", "passes.0.distill.adaptive=true"]
    assert call(*command, "-o", out).exit_code == 0
    broken = out.parent / "broken.onnx"
    with breaking_off(4):
        stopped = call(*command, "-o", broken)
    assert stopped.exit_code == 130
    assert "broken.onnx.step1.checkpoint.npz holds the training" in stopped.stderr
    assert "--resume goes on" in stopped.stderr
    assert not broken.exists() and (out.parent / "broken.onnx.step1.checkpoint.npz").exists()
    result = call(*command, "-o", broken, "--resume")
    assert result.exit_code == 0, result.stderr
    assert broken.read_bytes() == out.read_bytes()
    assert not list(out.parent.glob("*checkpoint*"))


def test_a_dry_run_tells_the_plan(call: Call, student: Path, flags: list[object], out: Path) -> None:
    result = call("distill", student, *flags, "--dry-run", "--json")
    assert result.exit_code == 0, result.stderr
    (step,) = json.loads(result.stdout)["plan"]
    assert step["touched"] == {"w1": "to be trained", "w2": "to be trained"}
    assert not out.exists()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (["--teacher", "nobody.onnx"], "nobody.onnx does not exist"),
        (["--learning-rate", "0"], "learning_rate"),
        (["--learning-rate", "-1"], "learning_rate"),
        (["--loss", "kll=1"], "kll"),
        (["--loss", "kl=much"], "NAME=WEIGHT"),
        (["--resume"], "nothing to resume"),
        (["--set", "passes.0.distill.batch=160"], "need 320"),
        (["--set", "passes.0.distill.train=nothing"], "'nothing' matches no weight"),
        (["--labels", "labell"], "labell"),
    ],
)
def test_what_does_not_go(
    call: Call, student: Path, flags: list[object], out: Path, wrong: list[str], told: str
) -> None:
    result = call("distill", student, "-o", out, *flags, *wrong)
    assert result.exit_code == 2
    assert told in result.stderr
    assert not out.exists()


def test_somebody_must_teach_and_there_must_be_data(call: Call, student: Path, model: Path, out: Path) -> None:
    assert "who teaches?" in call("distill", student, "-o", out).stderr
    assert "distill needs training data" in call("distill", student, "-o", out, "--teacher", model).stderr


def test_a_model_that_has_nothing_to_learn_is_a_fault(call: Call, model: Path, flags: list[object], out: Path) -> None:
    result = call("distill", model, "-o", out, *flags)
    assert result.exit_code == 2 and not out.exists()
    assert "changed nothing" in result.stderr and "the weights stay as they were" in result.stderr


@pytest.fixture
def stopped(call: Call, student: Path, flags: list[object], out: Path) -> list[object]:
    """A command whose training was interrupted after its first epoch."""
    command = ["distill", student, *flags, "-o", out, "--no-measure", "--learning-rate", 0.001, "--epochs", 2]
    with breaking_off(3):
        assert call(*command).exit_code == 130
    return command


OTHERS = {
    "model": lambda files: _disturb(files["student"]),
    "passes": lambda files: _disturb(files["teacher"]),
    "data": lambda files: _shuffle(files["data"]),
}
FLAGS = {
    "seed": ["--seed", 1],
    "passes": ["--temperature", 4],
    "data": ["--batch-size", 8],
    "passes, of an option that the training itself does not see": ["--loss", "mse"],
}


def _disturb(path: Path) -> None:
    proto = onnx.load(path)
    weight = proto.graph.initializer[0]
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(0.5), weight.name))
    onnx.save(proto, path)


def _shuffle(path: Path) -> None:
    with np.load(path) as arrays:
        np.savez(path, **{name: arrays[name][::-1] for name in arrays.files})


@pytest.mark.parametrize("what", OTHERS)
def test_other_files_do_not_resume(
    call: Call, stopped: list[object], what: str, student: Path, model: Path, data: Path, out: Path
) -> None:
    OTHERS[what]({"student": student, "teacher": model, "data": data})
    _refused(call, [*stopped, "--resume"], what, out)


@pytest.mark.parametrize("what", FLAGS)
def test_other_flags_do_not_resume(call: Call, stopped: list[object], what: str, out: Path) -> None:
    _refused(call, [*stopped, "--resume", *FLAGS[what]], what.partition(",")[0], out)


def _refused(call: Call, command: list[object], what: str, out: Path) -> None:
    (checkpoint,) = out.parent.glob("*.checkpoint.npz")
    before = checkpoint.read_bytes()
    result = call(*command)
    assert result.exit_code == 2, result.stderr
    assert f"belongs to another training: {what} was" in result.stderr
    assert checkpoint.read_bytes() == before and not out.exists()


def test_more_epochs_do_resume(call: Call, stopped: list[object], out: Path) -> None:
    result = call(*stopped, "--resume", "--epochs", 3)
    assert result.exit_code == 0, result.stderr
    assert out.exists() and not list(out.parent.glob("*checkpoint*"))


def test_hours_of_training_are_not_replaced_unasked(call: Call, stopped: list[object], out: Path) -> None:
    result = call(*stopped)
    assert result.exit_code == 2
    assert "holds a training that was interrupted\n  --resume goes on with it; --force begins anew" in result.stderr
    assert call(*stopped, "--force").exit_code == 0


def test_a_training_that_came_to_nothing_leaves_no_checkpoint(call: Call, student: Path, data: Path, out: Path) -> None:
    """Its own teacher: nothing can be learned, and the next try must not stumble over this one."""
    taught = ["--teacher", student, "--data", data, "--labels", "label", "--loss", "mse=1", "--epochs", 1]
    result = call("distill", student, *taught, "-o", out, "--no-measure")
    assert result.exit_code == 2 and "distill changed nothing" in result.stderr
    assert "--resume" not in result.stderr and not list(out.parent.glob("*checkpoint*"))
