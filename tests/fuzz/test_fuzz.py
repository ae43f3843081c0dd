"""A short run of the fuzzer; ``make fuzz SECONDS=600`` is the long one."""

from __future__ import annotations

import random
import subprocess
import sys

import onnx
import pytest

from compress_ops.errors import OnnxpressError
from compress_ops.model import load
from compress_ops.recipe import parse_recipe

from .bases import BASES, feeds
from .cases import make
from .recipes import recipe

CASES = 30


def test_mutants_end_as_documented(tmp_path):
    """In a process of its own: what other tests have started must not be forked."""
    words = ["--seed", "1", "--cases", str(CASES), "--jobs", "1", "--keep", str(tmp_path)]
    ended = subprocess.run([sys.executable, "-m", "tests.fuzz", *words], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert f"{CASES} cases of seed 1, 0 of them faults" in ended.stdout


@pytest.mark.parametrize("name", [name for name in BASES if name != "classifier"])  # onnx-ir knows no maps
def test_every_base_passes_the_gate(tmp_path, name):
    """Otherwise its mutants would never get past it."""
    onnx.save(BASES[name](), tmp_path / "m.onnx")
    assert load(tmp_path / "m.onnx").graph.outputs
    assert feeds(BASES[name]())


def test_a_case_is_all_in_its_seed_and_number(tmp_path):
    made = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        made.append((make(3, 11, tmp_path / name), (tmp_path / name / "m.onnx").read_bytes()))
    assert made[0] == made[1]


def test_most_recipes_are_valid():
    """Otherwise no pass would ever be tried."""

    def is_valid(seed: int) -> bool:
        try:
            return bool(parse_recipe(recipe(random.Random(seed), BASES["mlp"](), "data.npz")))
        except OnnxpressError:
            return False

    assert sum(map(is_valid, range(100))) > 60
