"""Of other packages only what they offer is used: no private module, and of onnxscript names that are still there."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

import onnxscript
import pytest
from onnxscript import optimizer
from onnxscript.rewriter.rules import common

from tests.helpers import ROOT

OWN = ("compress_ops", "cli")
RULES = {
    "collapse_slice2_rule",
    "collapse_slice_rule",
    "dropout_inference_rule",
    "dropout_zero_rule",
    "fuse_hardswish_rules",
}
FOLDING = {"onnx_shape_inference", "input_size_limit", "output_size_limit", "should_fold"}


def imported(path: Path) -> Iterator[str]:
    """What a file imports of other packages, with dots, at the top or inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module != "__future__":
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def foreign() -> list[tuple[Path, str]]:
    files = [path for tree in OWN for path in (ROOT / tree).rglob("*.py")]
    found = [(path.relative_to(ROOT), name) for path in files for name in imported(path)]
    return [(path, name) for path, name in found if name.partition(".")[0] not in OWN]


def test_no_private_module_of_another_package_is_imported() -> None:
    assert "onnxscript.rewriter.rules.common" in {name for _, name in foreign()}
    assert not [f"{path}: {name}" for path, name in foreign() if "._" in name or name.startswith("_")]


@pytest.mark.parametrize("rule", sorted(RULES))
def test_the_rules_that_simplify_applies_are_offered(rule: str) -> None:
    told = f"onnxscript {onnxscript.__version__} offers no {rule}: simplify.py needs another way"
    assert rule in common.__all__ and hasattr(common, rule), told


def test_folding_takes_a_judge_and_limits() -> None:
    known = set(inspect.signature(optimizer.fold_constants_ir).parameters)
    assert known >= FOLDING, f"onnxscript {onnxscript.__version__} folds without {FOLDING - known}: see folding.py"
