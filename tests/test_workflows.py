"""What runs elsewhere, as far as it can be held here: workflows, the release script, templates."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from .tools import matrix, release

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
EVERY_WORKFLOW = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / ".github").glob("*.md")]


def jobs(path: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"])


def steps(path: Path) -> Iterator[dict[str, Any]]:
    for job in jobs(path).values():
        yield from job["steps"]


def targets_named(text: str) -> set[str]:
    """Targets of make in a command, or in code of a page: ``make A B VAR=1``."""
    lists = re.findall(r"(?:^|`)(?:\$ )?make((?: [a-z][a-z-]*)+)", text, re.MULTILINE)
    return {target for words in lists for target in words.split()}


def known_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@EVERY_WORKFLOW
def test_every_target_of_make_exists(path: Path) -> None:
    assert set().union(*(targets_named(step.get("run", "")) for step in steps(path))) <= known_targets()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_target_that_a_page_names_exists(page: Path) -> None:
    assert targets_named(page.read_text(encoding="utf-8")) <= known_targets()


def test_targets_are_found() -> None:
    assert targets_named("`make check test`, and `make docs SECONDS=1` make it\n$ make fuzz\nmake demo  # now") == {
        *("check", "test", "docs", "fuzz", "demo")
    }
    assert "squeeze" not in known_targets() >= {"check", "test", "docs", "test-matrix"}


@EVERY_WORKFLOW
def test_every_file_that_a_command_names_exists(path: Path) -> None:
    named = [
        re.findall(r"\b(?:tests|configs|sample_models|docs)/[\w./-]+", step.get("run", "")) for step in steps(path)
    ]
    assert [name for names in named for name in names if not (ROOT / name).exists()] == []


@EVERY_WORKFLOW
def test_actions_are_pinned_by_major_version(path: Path) -> None:
    for action in [step["uses"] for step in steps(path) if "uses" in step]:
        assert re.fullmatch(r"[\w-]+/[\w-]+@(release/)?v\d+", action), action


@EVERY_WORKFLOW
def test_nothing_runs_forever_or_with_more_rights_than_it_needs(path: Path) -> None:
    assert yaml.safe_load(path.read_text(encoding="utf-8"))["permissions"] == {"contents": "read"}
    for name, job in jobs(path).items():
        assert job["timeout-minutes"] <= 90, name


def test_publishing_is_trusted_and_comes_behind_every_try() -> None:
    release_jobs = jobs(ROOT / ".github" / "workflows" / "release.yml")
    assert release_jobs["publish"]["permissions"] == {"id-token": "write"}
    assert release_jobs["publish"]["environment"]["name"] == "pypi"
    assert [release_jobs[name]["needs"] for name in ("try", "publish", "announce")] == ["build", "try", "publish"]
    assert "secrets." not in (ROOT / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8")


def test_every_python_that_is_told_is_tried() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    told = {line.rpartition(" ")[2] for line in project["classifiers"] if re.search(r"Python :: 3\.\d+$", line)}
    tried = jobs(ROOT / ".github" / "workflows" / "ci.yml")["tests"]["strategy"]["matrix"]["python"]
    assert told <= set(tried)
    assert project["requires-python"] == f">={tried[0]}"


def test_what_is_tried_on_each_python_exists() -> None:
    assert [part for part in matrix.SUBSET if not (ROOT / "tests" / part).exists()] == []


@pytest.mark.parametrize("name", ["bug.yml", "feature.yml"])
def test_forms_are_what_github_takes(name: str) -> None:
    form = yaml.safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / name).read_text(encoding="utf-8"))
    assert form["name"] and form["description"]
    ids = [item["id"] for item in form["body"] if item["type"] != "markdown"]
    assert len(set(ids)) == len(ids)
    for item in form["body"]:
        assert item["type"] in {"markdown", "textarea", "input", "dropdown", "checkboxes"}
        assert item["attributes"]["value" if item["type"] == "markdown" else "label"]


PYPROJECT = '[project]\nversion = "1.2.3"\nurls = { Source = "https://github.com/one/two" }\n'
CHANGELOG = "# Changelog\n\n## 1.2.3 (2026-01-31)\n\n- Something.\n\n## 1.2.2 (2025-12-24)\n\n- Older.\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG)
    return tmp_path


def test_a_release_that_is_ready(project: Path) -> None:
    assert list(release.faults("v1.2.3", "one/two", project)) == []
    assert release.notes("v1.2.3", project) == "- Something."
    assert release.notes("v1.2.2", project) == "- Older."


@pytest.mark.parametrize(
    ("tag", "repository", "said"),
    [
        ("v1.2.4", "one/two", "the tag is v1.2.4"),
        ("1.2.3", "one/two", "the tag is 1.2.3"),
        ("v1.2.3", "other/two", "it must be https://github.com/other/two"),
    ],
)
def test_a_release_that_is_not(project: Path, tag: str, repository: str, said: str) -> None:
    assert said in "\n".join(release.faults(tag, repository, project))


def test_a_release_without_a_date(project: Path) -> None:
    (project / "CHANGELOG.md").write_text(CHANGELOG.replace("(2026-01-31)", "(unreleased)"))
    assert "no section" in "\n".join(release.faults("v1.2.3", "one/two", project))


def test_this_project_waits_for_its_address(capsys: pytest.CaptureFixture[str]) -> None:
    """Until there is one, nothing can be published by mistake."""
    assert release.main("v0.0.0", "nobody/nothing") == 1
    assert "the tag is v0.0.0" in capsys.readouterr().err
