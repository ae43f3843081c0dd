"""Each recipe in configs/ runs as it stands on a sample model, and meets its own budget."""

from pathlib import Path

import onnxruntime
import pytest

from compress_ops.pipeline import Job, plan, run
from compress_ops.recipe import LoadedRecipe, load_recipe
from tests.helpers import ROOT

SAMPLES = ROOT / "sample_models"
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
MODELS = {"digits": ("digits-cnn", "digits-mlp"), "textlm": ("textlm",), "recommender": ("recommender",)}
QUICK = ["measure.seconds=0.05"]


def _models(loaded: LoadedRecipe) -> list[str]:
    """The samples that a config is for: those of its data, or all of them."""
    source = loaded.recipe.data.calibration or (loaded.recipe.data.evaluation and loaded.recipe.data.evaluation.path)
    families = [Path(source).name.partition("-")[0]] if source else list(MODELS)
    return [model for family in families for model in MODELS[family]]


CASES = [(path, model) for path in CONFIGS for model in _models(load_recipe(path))]


def test_there_are_configs() -> None:
    assert {"int8-dynamic.yaml", "int8-static.yaml", "sparse-int8.yaml"} <= {path.name for path in CONFIGS}
    assert len(CASES) >= 8 and {model for _, model in CASES} == {
        model for models in MODELS.values() for model in models
    }


@pytest.mark.parametrize(("path", "model"), CASES, ids=[f"{path.stem}-{model}" for path, model in CASES])
def test_it_meets_its_budget(path: Path, model: str, tmp_path: Path) -> None:
    out = tmp_path / "small.onnx"
    report = run(Job(load_recipe(path, QUICK), SAMPLES / f"{model}.onnx", out))
    assert report.verdicts and all(verdict.verdict == "met" for verdict in report.verdicts), report.verdicts
    assert out.stat().st_size < 0.6 * (SAMPLES / f"{model}.onnx").stat().st_size
    onnxruntime.InferenceSession(out)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_it_begins_by_saying_what_it_is_for_and_how_to_run_it(path: Path) -> None:
    comment = path.read_text().partition("\nversion:")[0]
    assert all(line.startswith("#") for line in comment.split("\n"))
    assert comment.split("\n")[-1] == f"#   onnxpress run {path.name} MODEL -o small.onnx"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_it_can_be_planned_for_every_sample_it_is_for(path: Path) -> None:
    for model in _models(load_recipe(path)):
        steps = plan(Job(load_recipe(path), SAMPLES / f"{model}.onnx", None))
        assert steps[-1].touched
