"""The wheel, installed elsewhere, does the main job: it holds every module of both trees, and no top-level ``cli``."""

import json
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.helpers import ROOT

TREES = {"compress_ops": "compress_ops", "cli": "compress_ops/cli"}
JUNK = shutil.ignore_patterns("__pycache__", "*.pyc")


def _call(*words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a program outside the checkout; what it prints is in the failure."""
    done = subprocess.run([str(word) for word in words], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, with what is installed here where that is new enough, so that no network is needed."""
    source = tmp_path_factory.mktemp("source")
    for tree in TREES:
        shutil.copytree(ROOT / tree, source / tree, ignore=JUNK)
        (source / tree / "brand_new").mkdir()  # is packed without anybody naming it
        (source / tree / "brand_new" / "__init__.py").touch()
    for name in ("pyproject.toml", "setup.py", "LICENSE", "README.md"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, source)
    (source / "tests").mkdir()  # neither tests nor other folders beside the packages may slip in
    (source / "tests" / "__init__.py").touch()
    isolation = ["--no-isolation"] if int(version("setuptools").partition(".")[0]) >= 77 else []
    _call(sys.executable, "-m", "build", "--wheel", *isolation, "--outdir", source / "dist", source, cwd=source)
    (built,) = (source / "dist").iterdir()
    return built


@pytest.fixture(scope="module")
def elsewhere(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel; its dependencies are lent by this one, but not this one's onnxpress."""
    folder = tmp_path_factory.mktemp("elsewhere")
    venv.create(folder / "env", with_pip=False)
    site = _site(folder)
    _call(sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", site, wheel, cwd=folder)
    lent = Path(sysconfig.get_path("purelib"))
    (folder / "lent").mkdir()
    for entry in lent.iterdir():
        if "onnxpress" not in entry.name and entry.suffix != ".pth":
            (folder / "lent" / entry.name).symlink_to(entry)
    (site / "lent.pth").write_text(f"{folder / 'lent'}\n")
    return folder


def _site(folder: Path) -> Path:
    (site,) = (folder / "env").rglob("site-packages")
    return site


def _python(folder: Path) -> Path:
    return folder / "env" / "bin" / "python"


def _onnxpress(folder: Path, *words: str | Path) -> str:
    """The installed console script's own code: pip --target writes its script for another interpreter."""
    code = "import sys; from compress_ops.cli.main import app; sys.argv[0] = 'onnxpress'; app()"
    return _call(_python(folder), "-I", "-c", code, *words, cwd=folder).stdout


def test_every_module_of_both_trees_is_in_the_wheel(wheel: Path) -> None:
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    written = {
        f"{installed}/{path.relative_to(ROOT / tree).as_posix()}"
        for tree, installed in TREES.items()
        for path in (ROOT / tree).rglob("*.py")
    }
    new = {f"{installed}/brand_new/__init__.py" for installed in TREES.values()}
    assert packed == {*written, *new, "compress_ops/py.typed"}
    assert len([name for name in packed if name.endswith("__init__.py")]) >= 10


def test_every_folder_of_modules_is_a_package() -> None:
    """A folder without __init__.py would work in the checkout and be missing in the wheel."""
    folders = {path.parent for tree in TREES for path in (ROOT / tree).rglob("*.py")}
    assert not [folder for folder in folders if not (folder / "__init__.py").is_file()]


def test_the_wheel_says_what_it_is_and_needs(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (metadata,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
    lines = archive.read(metadata).decode().split("\n")
    assert wheel.name.startswith("onnxpress-") and wheel.name.endswith("-py3-none-any.whl")
    assert {"Name: onnxpress", "Requires-Python: >=3.11", "License-Expression: Apache-2.0"} <= set(lines)
    needed = [line.partition(": ")[2] for line in lines if line.startswith("Requires-Dist: ")]
    runtimes = [line for line in needed if line.startswith("onnxruntime")]
    assert sorted(line.partition("; ")[2] for line in runtimes) == ['extra == "cpu"', 'extra == "gpu"']
    assert not [line for line in needed if line.startswith("torch") and "extra" not in line]
    assert {"Provides-Extra: cpu", "Provides-Extra: gpu", "Provides-Extra: dev"} <= set(lines)


def test_the_command_is_declared(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (entries,) = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
    assert "onnxpress = compress_ops.cli.main:app" in archive.read(entries).decode().split("\n")


def test_no_top_level_package_called_cli_is_installed(elsewhere: Path) -> None:
    installed = {path.name for path in _site(elsewhere).iterdir()}
    assert "compress_ops" in installed and not {"cli", "tests", "benchmarks"} & installed
    found = "import importlib.util as u; print(u.find_spec('cli'), u.find_spec('compress_ops').origin)"
    answer = _call(_python(elsewhere), "-I", "-c", found, cwd=elsewhere).stdout.split()
    assert answer == ["None", str(_site(elsewhere) / "compress_ops" / "__init__.py")]


def test_the_installed_tool_tells_its_version(elsewhere: Path) -> None:
    assert _onnxpress(elsewhere, "--version") == f"onnxpress {version('onnxpress')}\n"


def test_the_installed_tool_does_the_main_job(elsewhere: Path) -> None:
    """On a copy of a sample, from a folder that knows nothing of the checkout."""
    project = elsewhere / "project"
    (project / "configs").mkdir(parents=True)
    (project / "sample_models").mkdir()
    shutil.copy(ROOT / "configs" / "int8-static.yaml", project / "configs")
    for name in ("digits-cnn.onnx", "digits-calibration.npz", "digits-test.npz"):
        shutil.copy(ROOT / "sample_models" / name, project / "sample_models")
    model, out = project / "sample_models" / "digits-cnn.onnx", project / "small.onnx"
    recipe = project / "configs" / "int8-static.yaml"
    answer = _onnxpress(elsewhere, "run", recipe, model, "-o", out, "--json", "--set", "measure.seconds=0.1")
    report = json.loads(answer)
    assert report["bytes_after"] == out.stat().st_size < 0.3 * model.stat().st_size
    assert [verdict["verdict"] for verdict in report["verdicts"]] == ["met", "met"]
    assert report["onnxpress"] == version("onnxpress")
