"""How strong the suite is: single lines of the library are changed, one at a time, and the tests have to notice.

    python -m tests.tools.mutation FOLDER --replay MUTANTS.json [--recorded]
    python -m tests.tools.mutation FOLDER --choose MUTANTS.json [--seed 0] [--each 4] [--recorded]

FOLDER (hidden, or outside the tree) takes a copy of the tree, in which alone anything is changed, and the record of
which test reaches which line: the whole suite once, under coverage. ``--recorded`` takes both as an earlier call left
them. ``--choose`` draws so many mutants of each package and writes them; ``--replay`` meets those again, in a tree
where files were moved and tests rewritten, or tells that they are gone. Each mutant meets tests that reach its line,
those with the names of its folder and file first, the quick ones before the slow, of ``SECONDS`` in all; hanging
counts as noticed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter, defaultdict
from itertools import accumulate
from pathlib import Path

from coverage import CoverageData

from tests.tools.mutants import PACKAGES, Edit, Mutant, chosen, everything, place

ROOT = Path(__file__).parents[2]
SECONDS, PATIENCE = 60, 180
OUTSIDE = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist")


def pytest(tree: Path, *words: str, patience: float | None = None, **environment: str) -> tuple[int | None, str]:
    """Status and output of pytest in the copy; it ends with all that it started, and has no status, if it hangs."""
    command = [sys.executable, "-m", "pytest", "--hypothesis-seed=0", *words]
    around = {**os.environ, "PYTHONPATH": str(tree), **environment}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, cwd=tree, env=around, start_new_session=True, **pipes) as process:
        try:
            printed, _ = process.communicate(timeout=patience)
            return process.returncode, printed
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return None, ""


class Record:
    """Which tests reach a line, and how long each takes; those that fail without a mutant are left out."""

    def __init__(self, folder: Path) -> None:
        self.tree = folder / "tree"
        self.covered = CoverageData(str(folder / "coverage"))
        self.covered.read()
        failed = folder / "cache" / "v" / "cache" / "lastfailed"
        self.failed = set(json.loads(failed.read_text())) if failed.exists() else set()
        self.seconds: dict[str, float] = defaultdict(float)
        for line in (folder / "suite.txt").read_text().splitlines():
            if timed := re.fullmatch(r"([\d.]+)s (?:setup|call|teardown) +(.*)", line):
                self.seconds[timed[2]] += float(timed[1])

    def tests(self, edit: Edit) -> list[str]:
        """The nearest by name, then the quickest, that reach the lines; or, if none does, that reach their file."""
        by_line = self.covered.contexts_by_lineno(str(self.tree / edit.file))
        reached = {name for line in edit.lines for name in by_line.get(line, [])} - {""}
        names = {name.rpartition("|")[0] for name in reached or {name for names in by_line.values() for name in names}}
        far = {name: sum(part not in name for part in edit.file.with_suffix("").parts) for name in names}
        green = names & self.seconds.keys() - self.failed
        tests = sorted(green, key=lambda name: (far[name], self.seconds[name], name))
        before = accumulate((self.seconds[name] for name in tests), initial=0.0)
        return [name for name, seconds in zip(tests, before, strict=False) if seconds < SECONDS]


def record(folder: Path) -> None:
    """Copy the tree and run the suite in it, under coverage."""
    for earlier in ("tree", "cache"):
        shutil.rmtree(folder / earlier, ignore_errors=True)
    shutil.copytree(ROOT, folder / "tree", ignore=OUTSIDE)
    measured = ["--cov-context=test", "--cov-report=", *(f"--cov={package}" for package in PACKAGES)]
    options = ["-n", "2", "-m", "not slow", "--durations=0", "--durations-min=0", "-o", f"cache_dir={folder}/cache"]
    _, printed = pytest(folder / "tree", *options, *measured, COVERAGE_FILE=str(folder / "coverage"))
    (folder / "suite.txt").write_text(printed)
    print(*printed.splitlines()[-1:], flush=True)


def fate(edit: Edit, known: Record) -> tuple[str, str]:
    """``killed`` or ``survived``, and by what."""
    tests = known.tests(edit)
    if not tests:
        return "survived", "no test reaches it"
    file = known.tree / edit.file
    original = file.read_bytes()
    try:
        file.write_bytes(edit.made(original))
        status, printed = pytest(known.tree, "-x", "-n", "0", "-p", "no:cacheprovider", *tests, patience=PATIENCE)
    finally:
        file.write_bytes(original)
    if status == 0:
        return "survived", f"{len(tests)} tests"
    noticed = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - |$)", printed, re.MULTILINE)
    return "killed", noticed[1] if noticed else f"pytest's status {status}"


def main() -> None:
    """Print what becomes of each mutant, and how many are killed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--replay", type=Path)
    which.add_argument("--choose", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--each", type=int, default=4)
    parser.add_argument("--recorded", action="store_true")
    options = parser.parse_args()
    folder = options.folder.resolve()
    if not options.recorded:
        record(folder)
    known, places = Record(folder), everything(folder / "tree")
    if options.choose:
        mutants = [mutant._asdict() for mutant in chosen(places, options.seed, options.each)]
        options.choose.write_text(json.dumps(mutants, indent=1) + "\n")
    ends: Counter[str] = Counter()
    for fields in json.loads((options.choose or options.replay).read_text()):
        mutant = Mutant(**fields)
        edit = place(mutant, places)
        end, why = fate(edit, known) if edit else ("gone", "")
        ends[end] += 1
        where = f"{edit.file}:{edit.lines[0]}" if edit else mutant.module
        print(f"{end:9} {where} {mutant.function}", f"{mutant.kind}: {mutant.line}", why, sep="\n    ", flush=True)
    print(f"{ends['killed']} of {ends['killed'] + ends['survived']} killed, {ends['gone']} gone")


if __name__ == "__main__":
    main()
