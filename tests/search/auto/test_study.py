"""A study of the outer choices: suggestions that repeat, processes that share it, and what it refuses to be."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from compress_ops.errors import OutputError, UsageError
from compress_ops.search.auto.outer_choices import Choices, first_choices
from compress_ops.search.auto.study import Study, study_at
from tests.helpers import ROOT

IN_MEMORY = "sqlite://"
JOB = {"model": "abc", "calibration data": "def", "budget": "max_size 25%", "aim": "bytes", "seed": "0"}


def value_of(choices: Choices) -> float:
    """In the place of what is measured: least at half of the channels by l2."""
    return abs(choices.cut - 0.5) + 0.1 * (choices.score != "l2") + 0.01 * (choices.calibrator != "mse")


def go_on(study: Study, trials: int, *, retrain: bool = False) -> list[Choices]:
    """What so many more trials were suggested."""
    study.begin_with([each.told() for each in first_choices(retrain=retrain)])
    tried = []
    for _ in range(trials):
        trial = study.ask()
        tried.append(study.suggested(trial, lambda each: Choices.suggested(each, retrain=retrain)))
        study.tell(trial, value_of(tried[-1]), {"passes": []})
    return tried


def test_the_same_seed_and_values_suggest_the_same() -> None:
    first, again, other = (go_on(study_at(IN_MEMORY, JOB, seed), 10, retrain=True) for seed in (3, 3, 4))
    assert first == again != other
    assert first[:2] == other[:2] == first_choices(retrain=True)


def test_a_study_that_is_gone_on_with_suggests_what_it_would_have(tmp_path: Path) -> None:
    whole = go_on(study_at(IN_MEMORY, JOB, 0), 8)
    parts = [go_on(study_at(tmp_path / "parts.db", JOB, 0), trials) for trials in (1, 6, 1)]
    assert [each for part in parts for each in part] == whole


def test_suggestions_are_what_can_be_tried() -> None:
    tried = go_on(study_at(IN_MEMORY, JOB, 0), 20, retrain=True)
    assert {each.cut for each in tried} <= {round(0.05 * n, 2) for n in range(18)}
    assert all((each.epochs > 0) == (each.cut > 0) for each in tried)
    assert {each.block_size for each in tried} == {32, 64, 128}


def test_the_sampler_learns() -> None:
    values = [*map(value_of, go_on(study_at(IN_MEMORY, JOB, 1), 40))]
    assert sum(values[-10:]) < sum(values[2:12])


def test_what_was_interrupted_is_tried_next(tmp_path: Path) -> None:
    study = study_at(tmp_path / "study.db", JOB, 0)
    go_on(study, 3)
    trial = study.ask()
    interrupted = study.suggested(trial, lambda each: Choices.suggested(each, retrain=False))
    study.give_back(trial)
    assert len(study.records()) == 3
    assert go_on(study_at(tmp_path / "study.db", JOB, 0), 1) == [interrupted]


def test_a_trial_that_is_known_is_told_from_a_new_one(tmp_path: Path) -> None:
    study = study_at(tmp_path / "study.db", JOB, 0)
    study.begin_with([Choices().told()])
    for known in (False, True):
        trial = study.ask()
        study.suggested(trial, lambda each: Choices.suggested(each, retrain=False))
        assert study.is_known(trial) is known
        study.drop(trial) if known else study.tell(trial, 1.0, {})
        study.raw.enqueue_trial(dict(Choices().told()))


WORKER = """
    import sys
    from pathlib import Path
    from compress_ops.search.auto.outer_choices import Choices
    from compress_ops.search.auto.study import study_at

    study = study_at(Path(sys.argv[1]), {"model": "abc"}, 0)
    study.begin_with([Choices().told()])
    for _ in range(3):
        trial = study.ask()
        choices = study.suggested(trial, lambda each: Choices.suggested(each, retrain=False))
        study.tell(trial, choices.cut, {"worker": sys.argv[2]})
"""


def test_processes_share_a_study_from_its_first_moment(tmp_path: Path) -> None:
    place = tmp_path / "study.db"
    command = [sys.executable, "-c", textwrap.dedent(WORKER), str(place)]
    workers = [subprocess.Popen([*command, name], cwd=ROOT, stderr=subprocess.PIPE, text=True) for name in "abc"]
    told = [worker.communicate(timeout=120)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0, 0], told
    records = study_at(place, {"model": "abc"}, 0).records()
    assert sorted(record.kept["worker"] for record in records) == [*"aaabbbccc"]
    assert sorted(record.number for record in records) == [*range(9)]
    assert len({str(record.choices) for record in records}) > 3, "no process repeats what another does"


def test_the_study_of_another_job_is_refused_and_says_what_differs(tmp_path: Path) -> None:
    study_at(tmp_path / "study.db", JOB, 0)
    with pytest.raises(UsageError) as fault:
        study_at(tmp_path / "study.db", {**JOB, "budget": "max_size 30%", "training data": "123"}, 0)
    assert "budget: max_size 25% there, max_size 30% here; training data: none there, 123 here" in fault.value.message
    assert "model" not in fault.value.message


def test_where_nothing_lies_there_is_nothing_to_go_on_with(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no search in .*study\.db to go on with"):
        study_at(tmp_path / "study.db", JOB, 0, must_be_there=True)
    assert not (tmp_path / "study.db").exists()
    study_at(tmp_path / "study.db", JOB, 0)
    assert study_at(tmp_path / "study.db", JOB, 0, must_be_there=True).records() == []


@pytest.mark.parametrize("name", ["a {b} ?c=%20#d.db", "plain", "ünï.db"])
def test_any_name_of_a_file_will_do(name: str, tmp_path: Path) -> None:
    go_on(study_at(tmp_path / name, JOB, 0), 1)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert len(study_at(tmp_path / name, JOB, 0).records()) == 1


def test_a_url_of_a_file_is_the_same_study(tmp_path: Path) -> None:
    go_on(study_at(tmp_path / "study.db", JOB, 0), 1)
    assert len(study_at(f"sqlite:///{tmp_path}/study.db", JOB, 0).records()) == 1


def refused(place: Path | str) -> OutputError:
    with pytest.raises(OutputError) as fault:
        study_at(place, JOB, 0)
    return fault.value


@pytest.fixture
def database(tmp_path: Path) -> Path:
    study_at(tmp_path / "study.db", JOB, 0)
    return tmp_path / "study.db"


def test_a_database_that_is_locked(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_module("compress_ops.search.auto.storage"), "PATIENCE", 0.05)
    study = study_at(database, JOB, 0)
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        for use in (lambda: study_at(database, JOB, 0), study.records):
            with pytest.raises(OutputError, match="locked") as fault:
                use()
            assert "another program holds it" in fault.value.hint
    assert study.records() == []


@pytest.mark.parametrize("revision", ["v999.0.0", "v0.9.0.a"])
def test_a_database_of_another_version(database: Path, revision: str) -> None:
    with closing(sqlite3.connect(database)) as raw, raw:
        raw.execute("UPDATE alembic_version SET version_num = ?", (revision,))
    fault = refused(database)
    assert fault.message == f"{database} was written by another version of Optuna"
    assert f"sqlite:///{database}" in fault.hint


def test_what_is_no_study(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no database, " * 100)
    assert "file is not a database" in refused(tmp_path / "notes.txt").message
    with closing(sqlite3.connect(tmp_path / "other.db")) as raw, raw:
        raw.execute("CREATE TABLE customers (name TEXT)")
    before = (tmp_path / "other.db").read_bytes()
    assert "the database of another program" in refused(tmp_path / "other.db").message
    assert (tmp_path / "other.db").read_bytes() == before


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("sqlite:////nowhere/at/all.db", "unable to open database file"),
        ("nosql://here", "cannot be used"),
        ("mysql+mysqldb://me:secret@127.0.0.1:1/db", "mysql+mysqldb://me:***@127.0.0.1:1/db"),
        ("postgresql://me:secret@127.0.0.1:1/db", "postgresql://me:***@127.0.0.1:1/db"),
    ],
)
def test_a_url_that_leads_nowhere(url: str, told: str) -> None:
    fault = refused(url)
    assert told in fault.message and "secret" not in str(fault)


def test_without_optuna_it_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UsageError) as fault:
        study_at(tmp_path / "study.db", JOB, 0)
    assert fault.value.hint == 'pip install "onnxpress[search]"'


def test_optuna_tells_nothing_by_itself(tmp_path: Path, capfd: Any) -> None:
    go_on(study_at(tmp_path / "study.db", JOB, 0), 8)
    assert capfd.readouterr() == ("", "")
