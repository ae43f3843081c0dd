"""Faults in a recipe: each kind, at every depth, with its exact line and column, all at once."""

import re
from typing import Any

import pytest

from compress_ops.errors import Faults, OnnxpressError, RecipeError
from compress_ops.recipe import parse_recipe, step_from
from compress_ops.recipe.check import check_document
from compress_ops.recipe.text import read_document
from compress_ops.runtime import Provider

STEP = "write a step as a pass name, or as one name with options: prune_weights: {ratio: 0.5}"
PROVIDER = "write a provider as a name such as cuda, or as {cuda: {device_id: 0}}"


def _faults(text: str, *overrides: str) -> list[str]:
    """The first line of every fault of a recipe."""
    with pytest.raises(OnnxpressError) as raised:
        parse_recipe(text, "r.yaml", overrides)
    found = raised.value.faults if isinstance(raised.value, Faults) else [raised.value]
    assert all(type(fault) is RecipeError for fault in found)
    return [str(fault).partition("\n")[0] for fault in found]


def _section_faults(text: str, *overrides: str) -> list[str]:
    """Faults of one section, written on line 3."""
    return _faults(f"version: 1\npasses: [simplify]\n{text}\n", *overrides)


def _step_faults(text: str) -> list[str]:
    """Faults of one step, written on line 3 from column 5."""
    return _faults(f"version: 1\npasses:\n  - {text}\n")


def _parsed(text: str) -> Any:
    return parse_recipe(f"version: 1\npasses: [simplify]\n{text}\n").recipe


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "version: 1\npasses:\n  simplify:\n  quantize_dynamic: {per_channel: true}\n",
            "recipe:3:3: passes must be a list with at least one step, and is a mapping\n"
            "  put a dash before each step: - simplify",
        ),
        (
            "version: 1\npasses:\n  quantize_dynamic: {per_channel: true}\n",
            "recipe:3:3: passes must be a list with at least one step, and is a mapping\n"
            "  put a dash before each step: - quantize_dynamic:",
        ),
        ("version: 1\npasses:\n\t- simplify\n", "recipe:3:1: not valid YAML: there is a tab; lines are indented with"),
    ],
)
def test_what_people_write_first(text: str, told: str) -> None:
    with pytest.raises(OnnxpressError) as caught:
        parse_recipe(text)
    assert told in str(caught.value)


@pytest.mark.parametrize("ratio", ["50%", "50.0%", "'50 %'", "0.5"])
def test_a_share_may_be_written_in_percent(ratio: str) -> None:
    step = parse_recipe(f"version: 1\npasses: [{{prune_channels: {{ratio: {ratio}}}}}]\n").recipe.passes[0]
    assert step.arguments()["ratio"] == 0.5


@pytest.mark.parametrize("ratio", ["150%", "'%'", "'a%'", "100%"])
def test_a_share_is_between_0_and_1(ratio: str) -> None:
    with pytest.raises(OnnxpressError, match="ratio: should be"):
        parse_recipe(f"version: 1\npasses: [{{prune_channels: {{ratio: {ratio}}}}}]\n")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "r.yaml: the recipe is empty"),
        ("# nothing\n", "r.yaml: the recipe is empty"),
        ("\n---\n", "r.yaml:3:1: the recipe is empty"),
        ("- version: 1\n", "r.yaml:1:1: the recipe is not a mapping"),
        ("version 1", "r.yaml:1:1: the recipe is not a mapping"),
        ("\n 5", "r.yaml:2:2: the recipe is not a mapping"),
    ],
)
def test_a_recipe_is_a_mapping(text: str, told: str) -> None:
    assert _faults(text) == [told]


def test_version_and_passes_are_required() -> None:
    assert _faults("\nthreads: 1\n") == ["r.yaml:2:1: 'version' is required", "r.yaml:2:1: 'passes' is required"]


@pytest.mark.parametrize("written", ["2", "0", "'1'", "true", "1.0", "", "[1]"])
def test_the_version_is_one(written: str) -> None:
    (fault,) = _faults(f"version: {written}\npasses: [simplify]\n")
    assert re.match(r"r\.yaml:1:(9|10): version: should be 1\b", fault)


@pytest.mark.parametrize("written", ["", "[]", "simplify", "{}", "5", "null"])
def test_passes_are_a_list_with_a_step(written: str) -> None:
    (fault,) = _faults(f"version: 1\npasses: {written}\n")
    assert fault == f"r.yaml:2:{9 if written else 8}: passes must be a list with at least one step"


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("bugdet: {}", "r.yaml:3:1: unknown option 'bugdet'; did you mean 'budget'?"),
        ("pases: []", "r.yaml:3:1: unknown option 'pases'; did you mean 'passes'?"),
        ("'': 1", "r.yaml:3:1: unknown option ''"),
        ("budget: {max_sise: 1}", "r.yaml:3:10: unknown option 'max_sise'; did you mean 'max_size'?"),
        ("measure: {second: 1}", "r.yaml:3:11: unknown option 'second'; did you mean 'seconds'?"),
        ("data: {calibraton: x}", "r.yaml:3:8: unknown option 'calibraton'; did you mean 'calibration'?"),
        (
            "data:\n  evaluation:\n    path: x\n    labelz: y",
            "r.yaml:6:5: unknown option 'labelz'; did you mean 'labels'?",
        ),
        ("data: {images: {resiz: 1}}", "r.yaml:3:17: unknown option 'resiz'; did you mean 'resize'?"),
    ],
)
def test_an_unknown_option_is_told_at_its_key_at_every_depth(written: str, told: str) -> None:
    assert _section_faults(written) == [told]


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("simplifi", "3:5: unknown pass 'simplifi'; did you mean 'simplify'?"),
        ("prune_weigh", "3:5: unknown pass 'prune_weigh'; did you mean 'prune_weights'?"),
        ("prune_wieghts: {ratio: 0.5}", "3:5: unknown pass 'prune_wieghts'; did you mean 'prune_weights'?"),
        ("xyzzy", "3:5: unknown pass 'xyzzy'"),
        ("prune_weights: {ratoi: 0.5}", "3:21: unknown option 'ratoi'; did you mean 'ratio'?"),
        ("simplify: {allow_unchange: true}", "3:16: unknown option 'allow_unchange'; did you mean 'allow_unchanged'?"),
        ("5", f"3:5: {STEP}"),
        ("", f"3:4: {STEP}"),
        ("true", f"3:5: {STEP}"),
        ("[simplify]", f"3:5: {STEP}"),
        ("{}", f"3:5: {STEP}"),
        ("{simplify: {}, upgrade_opset: {}}", f"3:5: {STEP}"),
        ("prune_weights: 0.5", f"3:20: {STEP}"),
        ("prune_weights: [ratio]", f"3:20: {STEP}"),
    ],
)
def test_a_step_is_a_known_pass_with_known_options(written: str, told: str) -> None:
    assert _step_faults(written) == [f"r.yaml:{told}"]


@pytest.mark.parametrize(
    ("written", "column", "told"),
    [
        ("prune_weights: {ratio: true}", 28, "ratio: should be a valid number (found True)"),
        ("prune_weights: {ratio: '0.5'}", 28, "ratio: should be a valid number (found '0.5')"),
        ("prune_weights: {ratio: 1}", 28, "ratio: should be less than 1 (found 1)"),
        ("prune_weights: {ratio: 0}", 28, "ratio: should be greater than 0 (found 0)"),
        ("prune_weights: {ratio: .nan}", 28, "ratio: should be a finite number (found nan)"),
        ("prune_weights: {threshold: 1e999}", 32, "threshold: should be a finite number (found inf)"),
        ("prune_weights: {scope: globl}", 28, "scope: should be 'tensor', 'output' or 'global' (found 'globl')"),
        ("prune_weights: {normalize: 1}", 32, "normalize: should be a valid boolean (found 1)"),
        ("prune_weights: {normalize:}", 31, "normalize: should be a valid boolean (found nothing)"),
        ("prune_weights: {only: 5}", 27, "only: should be a list (found 5)"),
        ("prune_weights: {skip: [a, 1]}", 31, "skip[1]: should be a valid string (found 1)"),
        ("quantize_static: {operators: [Conv, Gem]}", 41, "operators[1]: should be 'Conv', 'Gemm' or 'MatMul'"),
        ("quantize_static: {percentile: 101}", 35, "percentile: should be less than or equal to 100 (found 101)"),
        ("simplify: {allow_larger: yes}", 30, "allow_larger: should be a valid boolean (found 'yes'); write true or"),
        ("simplify: {allow_unchanged: 1}", 33, "allow_unchanged: should be a valid boolean (found 1)"),
    ],
)
def test_options_are_not_coerced_and_keep_to_their_range(written: str, column: int, told: str) -> None:
    (fault,) = _step_faults(written)
    assert fault.startswith(f"r.yaml:3:{column}: {told}")


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("threads: 0", "3:10: threads: should be greater than or equal to 1 (found 0)"),
        ("threads: 1.0", "3:10: threads: should be a valid integer (found 1.0)"),
        ("threads: true", "3:10: threads: should be a valid integer (found True)"),
        ("threads: '1'", "3:10: threads: should be a valid integer (found '1')"),
        ("threads: 100000", "3:10: threads: should be less than or equal to 1024 (found 100000)"),
        ("threads:", "3:9: threads: should be a valid integer (found nothing)"),
        ("threads: [1]", "3:10: threads: should be a valid integer"),
        ("seed: -1", "3:7: seed: should be greater than or equal to 0 (found -1)"),
        ("seed: no", "3:7: seed: should be a valid integer (found 'no')"),
        ("model: 5", "3:8: model: should be a valid string (found 5)"),
        ("data: x", "3:7: data: should be a mapping of options (found 'x')"),
        ("data: {batch_size: 0}", "3:20: batch_size: should be greater than or equal to 1 (found 0)"),
        ("data: {evaluation: 5}", "3:20: evaluation: should be a mapping of options (found 5)"),
        ("data: {evaluation: {labels: y}}", "3:8: 'path' of evaluation is required"),
        ("data: {evaluation: {path: x, metrics: top1}}", "3:39: metrics: should be a list (found 'top1')"),
        ("data: {evaluation: {path: x, metrics: [a, 1]}}", "3:43: metrics[1]: should be a valid string (found 1)"),
        ("data: {images: {resize: 5}}", "3:25: resize: should be [height, width] (found 5)"),
        ("data: {images: {resize: [5]}}", "3:25: resize: should be [height, width]"),
        ("data: {images: {resize: [0, 5]}}", "3:26: resize[0]: should be greater than 0 (found 0)"),
        ("data: {images: {layout: NWHC}}", "3:25: layout: should be 'NCHW' or 'NHWC' (found 'NWHC')"),
        ("data: {images: {std: [1, 0]}}", "3:26: std[1]: should be greater than 0 (found 0)"),
        ("data: {images: {scale: .inf}}", "3:24: scale: should be a finite number (found inf)"),
        ("measure: []", "3:10: measure: should be a mapping of options"),
        ("measure: {seconds: 0}", "3:20: seconds: should be greater than 0 (found 0)"),
        ("measure: {seconds: .inf}", "3:20: seconds: should be a finite number (found inf)"),
        ("measure: {dims: {n: 0}}", "3:21: n: should be greater than 0 (found 0)"),
        ("measure: {dims: {n: 1.5}}", "3:21: n: should be a valid integer (found 1.5)"),
        ("measure: {dims: [1]}", "3:17: dims: should be a mapping"),
        ("measure: {values: {n: x}}", "3:23: n: should be a valid number (found 'x')"),
        ("budget: {max_size: 12 XB}", "3:20: max_size: '12 XB' is no size; write a share of the original (30%)"),
        ("budget: {max_size: 1.5}", "3:20: max_size: '1.5' is no size"),
        ("budget: {max_size: true}", "3:20: max_size: 'True' is no size"),
        ("budget: {max_size: 0}", "3:20: max_size: '0' is no size"),
        ("budget: {max_size: 0%}", "3:20: max_size: '0%' is no size"),
        ("budget: {max_size: [30%]}", "3:20: max_size: '['30%']' is no size"),
        ("budget: {min_speedup: 0}", "3:23: min_speedup: should be greater than 0 (found 0)"),
        ("budget: {min_speedup: .inf}", "3:23: min_speedup: should be a finite number (found inf)"),
        ("budget: {min_speedup: 2x}", "3:23: min_speedup: should be a valid number (found '2x')"),
        ("budget: {max_drop: -1}", "3:20: max_drop: '-1' is no drop"),
        ("budget: {max_drop: true}", "3:20: max_drop: 'True' is no drop"),
        ("budget: {max_drop: [1]}", "3:20: max_drop: '[1]' is no drop"),
        ("budget: {max_drop: .inf}", "3:20: max_drop: 'inf' is no drop"),
        ("provider: 5", f"3:11: provider: {PROVIDER} (found 5)"),
        ("provider:", f"3:10: provider: {PROVIDER} (found nothing)"),
        ("provider: []", "3:11: provider: should have at least one entry"),
        ("provider: [cpu, 5]", f"3:17: provider[1]: {PROVIDER} (found 5)"),
        ("provider: [[cpu]]", f"3:12: provider[0]: {PROVIDER}"),
        ("provider: [cpu, {cuda: 5}]", f"3:17: provider[1]: {PROVIDER}"),
        ("provider: [{cuda: {}, cpu: {}}]", f"3:12: provider[0]: {PROVIDER}"),
        ("provider: {}", f"3:11: provider: {PROVIDER}"),
    ],
)
def test_sections_are_not_coerced_and_keep_to_their_range(written: str, told: str) -> None:
    (fault,) = _section_faults(written)
    assert fault.startswith(f"r.yaml:{told}")


def test_a_long_value_is_not_repeated_in_full() -> None:
    (fault,) = _section_faults("threads: " + "x" * 10_000)
    assert len(fault) < 150 and fault.startswith("r.yaml:3:10: threads: should be a valid integer (found 'xxx")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("cuda", [Provider("cuda")]),
        ("[cuda, cpu]", [Provider("cuda"), Provider("cpu")]),
        ("[{cuda: {device_id: 0}}, cpu]", [Provider("cuda", {"device_id": 0}), Provider("cpu")]),
        ("{cuda: {device_id: 0}}", [Provider("cuda", {"device_id": 0})]),
        ("[{cuda: }]", [Provider("cuda")]),
    ],
)
def test_forms_of_a_provider(written: str, meant: list[Provider]) -> None:
    recipe = _parsed(f"provider: {written}")
    assert recipe.provider == meant
    again = parse_recipe(str(recipe.resolved()).replace("None", "null").replace("True", "true"))
    assert again.recipe.provider == meant


def test_providers_are_the_cpu_unless_told_otherwise() -> None:
    assert _parsed("").provider == [Provider("cpu")]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("{max_size: 30%}", ("30%", None, None)),
        ("{max_size: 12 MB}", ("12 MB", None, None)),
        ("{max_size: 120000}", (120000, None, None)),
        ("{min_speedup: 2}", (None, 2.0, None)),
        ("{max_drop: 2%}", (None, None, "2%")),
        ("{max_drop: 0.02}", (None, None, 0.02)),
        ("{max_drop: 0}", (None, None, 0)),
        ("{max_size: null}", (None, None, None)),
        ("", (None, None, None)),
    ],
)
def test_forms_of_a_budget(written: str, meant: tuple[Any, ...]) -> None:
    budget = _parsed(f"budget: {written}").budget
    assert (budget.max_size, budget.min_speedup, budget.max_drop) == meant


def test_evaluation_may_be_a_plain_path() -> None:
    evaluation = _parsed("data: {evaluation: test.npz}").data.evaluation
    assert (evaluation.path, evaluation.labels, evaluation.metrics) == ("test.npz", None, [])


def test_images_have_their_options() -> None:
    images = _parsed("data: {images: {resize: [224, 200], layout: NHWC, mean: [0.5, 1, 0], std: [2]}}").data.images
    assert (images.resize, images.layout, images.mean, images.std) == ((224, 200), "NHWC", [0.5, 1.0, 0.0], [2.0])
    assert images.scale == pytest.approx(1 / 255) and images.channels == "rgb"


def test_a_section_with_nothing_under_it_is_the_same_as_none() -> None:
    assert _parsed("data:\nmeasure:\nbudget:\nmodel:") == _parsed("")


@pytest.mark.parametrize("step", ["simplify", "simplify:", "simplify: {}", "{simplify: null}", "'simplify'"])
def test_forms_of_a_step(step: str) -> None:
    (parsed,) = parse_recipe(f"version: 1\npasses:\n  - {step}\n").recipe.passes
    assert parsed.operation.name == "simplify"
    assert parsed.arguments() == {"fold_batchnorm": True}


def test_a_pattern_may_stand_alone() -> None:
    text = "version: 1\npasses:\n  - prune_weights: {ratio: 0.5, only: Conv, skip: [/a, /b]}\n"
    (step,) = parse_recipe(text).recipe.passes
    assert (step.arguments()["only"], step.arguments()["skip"]) == (["Conv"], ["/a", "/b"])


def test_order_and_repetition_of_steps_are_kept() -> None:
    recipe = parse_recipe("version: 1\npasses: [quantize_dynamic, simplify, simplify]\n").recipe
    assert [step.operation.name for step in recipe.passes] == ["quantize_dynamic", "simplify", "simplify"]


def test_every_step_may_be_allowed_to_do_nothing_or_to_grow() -> None:
    recipe = parse_recipe("version: 1\npasses: [simplify: {allow_unchanged: true, allow_larger: true}]\n").recipe
    options = recipe.passes[0].options
    assert options.allow_unchanged and options.allow_larger and recipe.passes[0].arguments() == {"fold_batchnorm": True}


def test_all_faults_are_told_at_once_in_the_order_of_their_lines() -> None:
    text = (
        "passes:\n"
        "  - simplifi\n"
        "  - prune_weights: {ratio: 2, scop: x}\n"
        "  - {a: 1, b: 2}\n"
        "threads: many\n"
        "threads: 0\n"
        "buget: {}\n"
        "data:\n"
        "  evaluation: {metrics: [1]}\n"
        "budget: {max_size: big, min_speedup: -1}\n"
    )
    told = _faults(text)
    assert [fault.split(":", 3)[1:3] for fault in told] == [
        ["1", "1"],  # version
        ["2", "5"],
        ["3", "28"],
        ["3", "31"],
        ["4", "5"],
        ["6", "1"],  # the duplicate
        ["6", "10"],  # and its value
        ["7", "1"],
        ["9", "3"],  # the path of evaluation
        ["9", "26"],
        ["10", "20"],
        ["10", "38"],
    ]


def test_places_are_right_in_indented_and_flowing_text() -> None:
    text = "{version: 1,\r\n  passes: [\r\n    simplify, {prune_weights: {ratio: 0.5,\r\n      scop: tensor}}]}"
    assert _faults(text) == ["r.yaml:4:7: unknown option 'scop'; did you mean 'scope'?"]


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("threads=0", "threads: should be greater than or equal to 1 (found 0)"),
        ("budget.max_sise=1", "unknown option 'max_sise'; did you mean 'max_size'?"),
        ("budget={max_sise: 1}", "unknown option 'max_sise'; did you mean 'max_size'?"),
        ("data={evaluation: {path: x, labelz: y}}", "unknown option 'labelz'; did you mean 'labels'?"),
        ("data.evaluation.labels=y", "'path' of evaluation is required"),
        ("measure.dims.0=x", "0: should be a valid integer (found 'x')"),
        ("passes.0=simplifi", "unknown pass 'simplifi'; did you mean 'simplify'?"),
        ("passes.0.simplify.fold=1", "unknown option 'fold'; did you mean 'fold_batchnorm'?"),
        ("passes=[prune_weights: {skip: [1]}]", "skip[0]: should be a valid string (found 1)"),
        ("passes=[]", "passes must be a list with at least one step"),
        ("provider=[]", "provider: should have at least one entry"),
    ],
)
def test_faults_of_set_are_told_at_set(override: str, told: str) -> None:
    assert _section_faults("budget:", override) == [f"--set {override}: {told}"]


def test_faults_of_the_recipe_and_of_set_are_told_together() -> None:
    assert _section_faults("threads: 0", "seed=-1") == [
        "--set seed=-1: seed: should be greater than or equal to 0 (found -1)",
        "r.yaml:3:10: threads: should be greater than or equal to 1 (found 0)",
    ]


def test_set_mends_a_fault() -> None:
    loaded = parse_recipe("version: 1\npasses: [simplify]\nthreads: 0\n", overrides=["threads=2"])
    assert loaded.recipe.threads == 2


def test_faults_of_steps_made_in_code_name_the_pass() -> None:
    from compress_ops.catalogue import PASSES

    with pytest.raises(OnnxpressError) as raised:
        step_from(PASSES["prune_weights"], {"ratio": 2, "scop": "x"})
    assert str(raised.value).split("\n") == [
        "prune_weights: ratio: should be less than 1 (found 2)",
        "prune_weights: unknown option 'scop'; did you mean 'scope'?",
    ]
    assert step_from(PASSES["prune_weights"], {"ratio": 0.25}).arguments()["ratio"] == 0.25


def test_the_catalogue_is_the_callers() -> None:
    from compress_ops.catalogue import PASSES

    document = read_document("version: 1\npasses: [mine]\n", "r.yaml")
    assert check_document(document, {"mine": PASSES["simplify"]}).passes[0].operation is PASSES["simplify"]
