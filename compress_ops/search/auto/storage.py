"""Where a study of Optuna lies: an SQLite file, or a database that a URL names; and what may be wrong with it."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import OutputError, UsageError
from ...files.writing import Output
from ...pipeline.job import Job

if TYPE_CHECKING:
    import optuna

PATIENCE = 30.0  # seconds for which an SQLite file that others write to is waited for
_TABLES = {"studies", "version_info", "alembic_version"}
_ATTEMPTS = 10  # to make tables that another process makes at the same moment
_DRIVERS = "pip install psycopg2-binary (PostgreSQL) or PyMySQL (mysql+pymysql://...)"


def storage_of(job: Job) -> str | Path | None:
    """The file, or the URL, of the job's study; None where its search is kept nowhere.

    A file is relative to the recipe. With ``resume`` alone it is ``OUT.search.db``.
    """
    named = job.recipe.auto.storage if job.recipe.auto is not None else None
    if named is None:
        return job.out.with_name(f"{job.out.name}.search.db") if job.resume and job.out is not None else None
    return named if "://" in named else job.loaded.folder / named


def kept_besides(place: str | Path | None) -> list[Output]:
    """The file of a study, as something that is written besides the model."""
    return [Output(place, "--storage", appended=True)] if isinstance(place, Path) else []


def told_where(job: Job) -> str | None:
    """Where the job's search is kept, in words; None where it is not."""
    place = storage_of(job)
    return None if place is None else shown(place)


def optuna_module() -> Any:
    """Optuna, or one clear error where it is not installed."""
    try:
        import optuna
    except ImportError as error:
        hint = 'pip install "onnxpress[search]"'
        raise UsageError(
            f"--storage and --resume need Optuna, which cannot be imported ({error})", hint=hint
        ) from error
    return optuna


def opened(place: str | Path) -> optuna.storages.BaseStorage:
    """The database, with Optuna's tables in it, which are made where there are none."""
    storages = optuna_module().storages
    if isinstance(place, Path):
        _refuse_foreign(place)
    with told(place):
        for _ in range(_ATTEMPTS):
            try:
                return storages.RDBStorage(*_address(place))
            except Exception as error:
                if not _is_race(error):
                    raise
                time.sleep(0.1)
        return storages.RDBStorage(*_address(place))


def _address(place: str | Path) -> tuple[str, dict[str, Any]]:
    """What Optuna opens: of a file any name will do."""
    if isinstance(place, str):
        return place, {}

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(place, timeout=PATIENCE, check_same_thread=False)

    return "sqlite:///study", {"creator": connect}


def _is_race(error: Exception) -> bool:
    """Whether another process has just made what was to be made."""
    from sqlalchemy.exc import IntegrityError

    made_twice = any(isinstance(each, IntegrityError) for each in (error, error.__cause__))
    return made_twice or "already exists" in str(error)


def _refuse_foreign(file: Path) -> None:
    """Raise OutputError for a file that is no database, or that of another program: tables are not added to it."""
    if not file.exists():
        return
    try:
        uri = f"{file.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=PATIENCE)) as database:
            tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except sqlite3.Error as error:
        raise _unusable(file, str(error)) from error
    if tables and tables.isdisjoint(_TABLES):
        raise OutputError(f"{file} is the database of another program", hint="name another file with --storage")


@contextmanager
def told(place: str | Path) -> Iterator[None]:
    """What a database raises, as an OutputError that says what to do."""
    from sqlalchemy.exc import SQLAlchemyError

    optuna = optuna_module()
    try:
        yield
    except ImportError as error:
        raise OutputError(f"{shown(place)}: the driver for this database is not installed", hint=_DRIVERS) from error
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        cause = error.__cause__ if isinstance(error, optuna.exceptions.StorageInternalError) else error
        raise _unusable(place, str(getattr(cause, "orig", None) or cause)) from error
    except RuntimeError as error:
        if "table schema" not in str(error) and "optuna" not in str(error):
            raise
        hint = f"name another storage, or: optuna storage upgrade --storage {_as_url(place)}"
        raise OutputError(f"{shown(place)} was written by another version of Optuna", hint=hint) from error


def _unusable(place: str | Path, reason: str) -> OutputError:
    hint = "check the address, and that the server runs" if isinstance(place, str) else "name another file"
    if "locked" in reason:
        hint = "another program holds it: end that, or name another file"
    return OutputError(f"the storage {shown(place)} cannot be used: {' '.join(reason.split())}", hint=hint)


def _as_url(place: str | Path) -> str:
    return shown(place) if isinstance(place, str) else f"sqlite:///{place}"


def shown(place: str | Path) -> str:
    """The place without its password."""
    if isinstance(place, Path):
        return str(place)
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(place).render_as_string()
    except (ArgumentError, ValueError):
        return place.partition("://")[0] + "://..."
