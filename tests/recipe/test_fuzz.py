"""Whatever text is given for a recipe: a recipe comes out, or a documented error, and nothing else."""

import json
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from compress_ops.catalogue import PASSES
from compress_ops.errors import OnnxpressError
from compress_ops.recipe import LoadedRecipe, load_recipe, parse_recipe
from tests.helpers import ROOT

CONFIGS = [path.read_text() for path in sorted((ROOT / "configs").glob("*.yaml"))]
FULL = """\
version: 1
model: digits-cnn.onnx
provider: [{cpu: {arena: 1}}, cpu]
threads: 1
seed: 0
data:
  batch_size: 16
  calibration: c.npz
  training: t.npz
  evaluation: {path: e.npz, labels: label, metrics: [top1, f1]}
  images: {resize: [224, 224], layout: NCHW, scale: 0.00392, mean: [0.5], std: [0.5]}
measure: {batch: 1, dims: {seq: 64}, values: {sr: 16000}, seconds: 10}
passes:
  - simplify
  - prune_weights: {ratio: 0.5, scope: global, only: Conv, allow_unchanged: true}
  - quantize_static: {per_channel: true, skip: ["/head/*"]}
budget: {max_size: 30%, min_speedup: 1.5, max_drop: 2%}
"""
TEXTS = [*CONFIGS, FULL]
WORDS = [
    *("version", "model", "provider", "threads", "seed", "data", "measure", "passes", "budget", "calibration"),
    *("evaluation", "path", "labels", "metrics", "images", "resize", "dims", "values", "seconds", "max_size"),
    *("max_drop", "min_speedup", "ratio", "only", "skip", "allow_unchanged", "cpu", "30%", *PASSES),
]
SNIPPETS = ["- ", ": ", "\n", "  ", "{", "}", "[", "]", "&a ", "*a", "!!int ", "%", "#", "'", '"', "\t", "---\n", "\0"]
SNIPPETS += ["1e999", ".nan", "0x" + "f" * 5000, "null", "-1", "? ", "|\n", ">\n", "<<: ", "\ufeff", "\\ud800", "é"]


def _survives(text: str, *overrides: str) -> LoadedRecipe | None:
    try:
        return parse_recipe(text, "r.yaml", overrides)
    except OnnxpressError:
        return None


@pytest.mark.parametrize("text", TEXTS)
def test_the_seeds_are_valid(text: str) -> None:
    """Otherwise the mutations below would never get past the first fault."""
    assert _survives(text) is not None


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(exclude_categories=()), max_size=60))
@example("\ud800")
@example("\x85\u2028a: 1")
@example("? ? ? ")
@example("{[: ")
def test_any_text(text: str) -> None:
    _survives(text)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from([*WORDS, *SNIPPETS]), max_size=25).map("".join))
def test_any_text_of_the_recipes_own_words(text: str) -> None:
    _survives(text)


@st.composite
def _mutations(draw: st.DrawFn) -> str:
    """A valid recipe with up to three places deleted, doubled or written over."""
    text = draw(st.sampled_from(TEXTS))
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(text)))
        stop = min(len(text), start + draw(st.integers(0, 12)))
        middle = draw(
            st.one_of(st.sampled_from([*SNIPPETS, *WORDS]), st.text(max_size=5), st.just(text[start:stop] * 2))
        )
        text = text[:start] + middle + text[stop:]
    return text


@settings(max_examples=400, deadline=None)
@given(_mutations())
def test_any_mutation_of_a_valid_recipe(text: str) -> None:
    _survives(text)


_LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.sampled_from(WORDS), st.dates()
)
_KEYS = st.one_of(st.sampled_from(WORDS), st.text(max_size=4))
_TREES = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(_KEYS, inner, max_size=4)),
    max_leaves=12,
)
_SECTIONS = ("model", "provider", "threads", "seed", "data", "measure", "passes", "budget")


def _paths(data: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [here, *(path for key, value in inner for path in _paths(value, (*here, key)))]


def _replaced(data: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    copy = dict(data) if isinstance(data, dict) else list(data)
    copy[path[0]] = _replaced(copy[path[0]], path[1:], value)
    return copy


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(_paths(yaml.safe_load(FULL))), _TREES, st.booleans())
def test_any_value_in_any_place(path: tuple[Any, ...], value: Any, as_json: bool) -> None:
    data = _replaced(yaml.safe_load(FULL), path, value)
    _survives(json.dumps(data, default=str) if as_json else yaml.dump(data, sort_keys=False))


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(_paths(yaml.safe_load(FULL))), _TREES, _TREES)
def test_any_value_in_any_place_of_a_report(path: tuple[Any, ...], value: Any, hashes: Any) -> None:
    recipe = _replaced(yaml.safe_load(FULL), path, value)
    _survives(json.dumps({"recipe": recipe, "hashes": hashes}, default=str))


_SETTABLE = st.one_of(
    st.text(max_size=20),
    st.builds(
        "{}={}".format,
        st.lists(st.one_of(st.sampled_from(WORDS), st.integers(-1, 4).map(str), st.text(max_size=3)), min_size=1).map(
            ".".join
        ),
        st.one_of(_TREES.map(lambda tree: yaml.dump(tree, default_flow_style=True)), st.sampled_from(SNIPPETS)),
    ),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(_SETTABLE, min_size=1, max_size=3))
def test_any_set(assignments: list[str]) -> None:
    _survives(FULL, *assignments)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60))
@example(b"\xef\xbb\xbfversion: 1")
def test_any_bytes_in_a_file(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(content)
    with pytest.raises(OnnxpressError):
        load_recipe(path)


@settings(max_examples=150, deadline=None)
@given(
    st.fixed_dictionaries(
        {
            "ratio": st.floats(0.01, 0.99),
            "scope": st.sampled_from(["tensor", "global"]),
            "only": st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=6)),
            "allow_unchanged": st.booleans(),
        }
    ),
    st.integers(0, 2**63 - 1),
)
def test_a_resolved_recipe_parses_to_itself(options: dict[str, Any], seed: int) -> None:
    recipe = parse_recipe(json.dumps({"version": 1, "seed": seed, "passes": [{"prune_weights": options}]})).recipe
    assert recipe.seed == seed
    assert recipe.passes[0].options.model_dump(include=set(options)) == options
    resolved = recipe.resolved()
    for text in (json.dumps(resolved), json.dumps({"recipe": resolved}, indent=2)):
        assert parse_recipe(text).recipe.resolved() == resolved
