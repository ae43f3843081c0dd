"""A report is a recipe: run again it gives the same bytes, or says what is not the same."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from compress_ops.errors import OnnxpressError
from compress_ops.passes import Change, Context, Model, Promise, register
from compress_ops.pipeline import Job, run
from compress_ops.recipe import load_recipe

MakeJob = Callable[..., Job]
RECIPE = """\
version: 1
seed: 3
model: models/digits-cnn.onnx
data:
  calibration: data/digits-calibration.npz
  evaluation: {path: data/digits-test.npz, labels: label, metrics: [top1]}
measure: {seconds: 0.02}
passes:
  - simplify
  - prune_weights: {ratio: 0.3, scope: global, skip: Gemm}
  - quantize_static: {calibrator: percentile, percentile: 99.9}
"""


@pytest.fixture
def project(tmp_path: Path, samples: Path) -> Path:
    """A folder with a recipe, its model and its data, as somebody would keep them in git."""
    folder = tmp_path / "project"
    for name in ("models", "data", "reports"):
        (folder / name).mkdir(parents=True)
    (folder / "recipe.yaml").write_text(RECIPE)
    shutil.copy(samples / "digits-cnn.onnx", folder / "models")
    for name in ("digits-calibration.npz", "digits-test.npz"):
        shutil.copy(samples / name, folder / "data")
    return folder


def _run(recipe: Path, out: Path, *overrides: str, measure: bool = False) -> Path:
    """As the command line does: the recipe's own model, relative to the recipe."""
    loaded = load_recipe(recipe, overrides)
    assert loaded.recipe.model is not None
    report = run(Job(loaded, loaded.folder / loaded.recipe.model, out, measure=measure))
    document = json.dumps(report.plain(out.parent), allow_nan=False)
    out.with_suffix(".json").write_text(document)
    return out


def test_a_report_replays_to_the_same_bytes_from_any_folder(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    first = _run(Path("recipe.yaml"), Path("reports") / "a.onnx", measure=True)
    made = first.read_bytes()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    second = _run(project / "reports" / "a.json", Path("b.onnx"))
    assert second.read_bytes() == made
    third = _run(tmp_path / "elsewhere" / "b.json", tmp_path / "c.onnx")  # a report of a replay is a report
    assert third.read_bytes() == made


def test_a_project_may_move_as_a_whole(project: Path, tmp_path: Path) -> None:
    first = _run(project / "recipe.yaml", project / "reports" / "a.onnx").read_bytes()
    moved = project.rename(tmp_path / "moved")
    assert _run(moved / "reports" / "a.json", moved / "b.onnx").read_bytes() == first


def test_the_recipe_in_the_report_is_complete(project: Path) -> None:
    """Once resolved, a recipe stays as it is."""
    out = _run(project / "recipe.yaml", project / "reports" / "a.onnx")
    first = json.loads(out.with_suffix(".json").read_text())["recipe"]
    again = _run(out.with_suffix(".json"), project / "reports" / "b.onnx")
    assert json.loads(again.with_suffix(".json").read_text())["recipe"] == first


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ("models/digits-cnn.onnx", "model is not what the report was made with"),
        ("data/digits-calibration.npz", "calibration is not what the report was made with"),
        ("data/digits-test.npz", "evaluation is not what the report was made with"),
    ],
)
def test_a_replay_with_changed_files_says_which(project: Path, samples: Path, changed: str, told: str) -> None:
    out = _run(project / "recipe.yaml", project / "reports" / "a.onnx")
    path = project / changed
    if path.suffix == ".onnx":
        path.write_bytes(out.read_bytes())
    else:
        arrays = dict(np.load(path))
        np.savez(path, **{name: array[:-1] for name, array in arrays.items()})
    with pytest.raises(OnnxpressError, match=told):
        _run(out.with_suffix(".json"), project / "b.onnx")
    assert not (project / "b.onnx").exists()


def test_all_that_changed_is_told_together(project: Path) -> None:
    out = _run(project / "recipe.yaml", project / "reports" / "a.onnx")
    for name in ("digits-calibration.npz", "digits-test.npz"):
        arrays = dict(np.load(project / "data" / name))
        np.savez(project / "data" / name, **{key: array[:-1] for key, array in arrays.items()})
    with pytest.raises(OnnxpressError) as raised:
        _run(out.with_suffix(".json"), project / "b.onnx")
    assert str(raised.value).count("is not what the report was made with") == 2


def test_a_replay_without_its_model_says_where_it_was_looked_for(project: Path) -> None:
    out = _run(project / "recipe.yaml", project / "reports" / "a.onnx")
    (project / "models" / "digits-cnn.onnx").unlink()
    with pytest.raises(OnnxpressError, match=r"digits-cnn\.onnx does not exist"):
        _run(out.with_suffix(".json"), project / "b.onnx")


def test_a_setting_over_a_report_changes_the_result(project: Path) -> None:
    out = _run(project / "recipe.yaml", project / "reports" / "a.onnx")
    other = _run(out.with_suffix(".json"), project / "b.onnx", "passes.1.prune_weights.ratio=0.6")
    assert other.read_bytes() != out.read_bytes()


def test_random_data_replays(project: Path) -> None:
    text = RECIPE.replace("data/digits-calibration.npz", "random").replace(", skip: Gemm", "")
    (project / "recipe.yaml").write_text(text)
    out = _run(project / "recipe.yaml", project / "reports" / "a.onnx")
    assert _run(out.with_suffix(".json"), project / "b.onnx").read_bytes() == out.read_bytes()


def test_what_was_chosen_is_not_chosen_again(job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass that measures gets its earlier choice as an option."""
    from compress_ops import recipe as module

    given = []

    def choose(model: Model, ctx: Context, *, ratio: float | None = None) -> Change:
        """Choose a ratio."""
        given.append(ratio)
        return Change(chosen={"ratio": ratio if ratio is not None else 0.25})

    chooser = register("choose", promises=Promise.PREPARES)(choose)
    report = run(job("passes: [choose]", chooser))
    (tmp_path / "report.json").write_text(json.dumps(report.plain(tmp_path)))
    monkeypatch.setitem(module.PASSES, "choose", chooser)
    _run(tmp_path / "report.json", tmp_path / "again.onnx")
    assert given == [None, 0.25]
    assert (tmp_path / "again.onnx").read_bytes() == report.out.read_bytes()
