"""The core of the suite in environments of its own: the oldest promised dependencies, and each Python found here.

    python tests/tools/matrix.py FOLDER [NAME ...]

FOLDER takes the environments; a name is ``oldest`` or a version such as 3.12. The oldest dependencies are those that
pyproject.toml promises, all at once, on the oldest Python. A Python is found as python3.x on PATH or among those of
pyenv, or skipped.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
OLDEST = "oldest"
SUBSET = (  # what meets a dependency first; not what trains or prunes for minutes
    *("cli", "data", "files", "graph", "measure", "pipeline", "quantize", "recipe", "report", "search"),
    *("test_catalogue.py", "test_errors.py", "test_model.py", "test_passes.py", "test_public_api.py"),
    *("test_runtime.py", "prune/test_prune_channels.py", "prune/single_weights/test_prune_weights.py"),
    *("autodiff/test_gradient_definitions.py", "autodiff/test_gradient_rules.py"),
)


def floors() -> Iterator[str]:
    """Each ``>=`` of the dependencies, and of the extras that bring any, as ``==``."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    for line in [*project["dependencies"], *extras["cpu"], *extras["images"]]:
        wanted = Requirement(line)
        yield from (f"{wanted.name}=={part.version}" for part in wanted.specifier if part.operator == ">=")


def python(version: str) -> str | None:
    """The interpreter, if there is one; a name on PATH may stand for one that is not installed."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = [shutil.which(f"python{version}"), *sorted(pyenv.glob(f"{version}.*/bin/python{version}"))]
    return next((str(place) for place in found if place and runs(place)), None)


def runs(interpreter: str | Path) -> bool:
    return subprocess.run([interpreter, "-c", ""], capture_output=True, check=False).returncode == 0


def passes(folder: Path, name: str, interpreter: str) -> bool:
    """Whether the subset is green in a new environment of that name."""
    home, constraints = folder / name, folder / f"{name}.txt"
    folder.mkdir(parents=True, exist_ok=True)
    constraints.write_text("\n".join(floors()) if name == OLDEST else "")
    inside = str(home / "bin" / "python")
    install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", str(constraints), "-e", ".[dev]"]
    tests = ["-m", "pytest", "-n", "2", "-m", "not slow", *(f"tests/{part}" for part in SUBSET)]
    commands = [[interpreter, "-m", "venv", "--clear", str(home)], [inside, *install], [inside, *tests]]
    return all(subprocess.run(command, cwd=ROOT, check=False).returncode == 0 for command in commands)


def main(folder: Path, *names: str) -> int:
    here = {version: found for version in PYTHONS if (found := python(version))}
    ended = {}
    for name in names or (OLDEST, *PYTHONS):
        interpreter = next(iter(here.values()), None) if name == OLDEST else here.get(name)
        print(f"== {name}: {interpreter or 'not here'}", flush=True)
        green = passes(folder, name, interpreter) if interpreter else None
        ended[name] = {True: "green", False: "red", None: "not here, skipped"}[green]
    print(*(f"{name}: {end}" for name, end in ended.items()), sep="\n")
    return int("red" in ended.values() or "green" not in ended.values())


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).absolute(), *sys.argv[2:]))
