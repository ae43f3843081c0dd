"""The forms that data comes in: one table. A new form is one entry here and one file beside this one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import DataError, Place, did_you_mean, raise_all
from ...files.not_onnx import kind_of_file
from ...files.reading import is_absent, unreadable
from ...runtime import Port
from ..base import Dataset, DataSettings
from ..fit import settings_faults
from ..headers import npz_headers
from .folder import feed_files, open_folder
from .images import SUFFIXES, holds_images, open_images
from .npy import open_array
from .stacked import open_stacked
from .synthetic import open_random
from .user import open_user


@dataclass(frozen=True)
class Form:
    """A form of data: how it is recognised by its source and path, and how it is opened.

    ``brings_labels``: its labels need no name, being no array among others; ``names`` are those of its arrays, where
    they have names. ``is_path``: its source names a file or folder; ``repeats``: the same files give the same samples.
    """

    name: str
    summary: str
    claims: Callable[[str, Path], bool]
    open: Callable[[str, Sequence[Port], DataSettings], Dataset]
    brings_labels: bool = False
    names: Callable[[str, Path], Iterable[str]] = lambda source, path: ()
    is_path: bool = True
    repeats: bool = True


def _names_in_file(source: str, path: Path) -> Iterable[str]:
    return npz_headers(path, Place(source))


def _names_in_folder(source: str, path: Path) -> Iterable[str]:
    """All files hold the same arrays, or there is a fault."""
    return npz_headers(feed_files(path)[0], Place(source))


FORMS = (
    Form("random", "seeded random samples", lambda source, path: source == "random", open_random, is_path=False),
    Form(
        "user:module:function",
        "your own function",
        lambda source, path: source.startswith("user:"),
        open_user,
        brings_labels=True,
        is_path=False,
        repeats=False,
    ),
    Form(
        "FILE.npz",
        "stacked samples",
        lambda source, path: path.suffix == ".npz" and not path.is_dir(),
        open_stacked,
        names=_names_in_file,
    ),
    Form("FILE.npy", "samples for one input", lambda source, path: path.suffix == ".npy", open_array),
    Form(
        "FOLDER of .npz",
        "one complete feed each",
        lambda source, path: bool(feed_files(path)),
        open_folder,
        names=_names_in_folder,
    ),
    Form("FOLDER of images", "a sub-folder per class", lambda source, path: holds_images(path), open_images, True),
)


def open_data(
    source: str | Path, ports: Sequence[Port], settings: DataSettings, defaults: Sequence[Port] = ()
) -> Dataset:
    """Open data for the inputs ``ports`` of a model; raises all faults that names, types and shapes show.

    Inputs with ``defaults`` are fed where the data or the settings have something for them.
    """
    form = _form(str(source), settings.base)
    if form is None:
        raise _unclaimed(str(source), settings.base / source)
    named = {*settings.values, *(form.names(str(source), settings.base / source) if defaults else ())}
    fed = [*ports, *(port for port in defaults if port.name in named)]
    raise_all(settings_faults(fed, settings))
    return form.open(str(source), fed, settings)


def brings_labels(source: str, base: Path) -> bool:
    """Whether data of this form has labels that need no name: those of class folders, or of the user's function."""
    form = _form(source, base)
    return form is not None and form.brings_labels


def is_known(source: str, base: Path) -> bool:
    """Whether there is data of a known form."""
    return _form(source, base) is not None


def is_path(source: str) -> bool:
    """Whether a source names a file or folder; not all data does."""
    return _not_in_files(source) is None


def repeats(source: str) -> bool:
    """Whether data is the same as long as the files of a run are."""
    form = _not_in_files(source)
    return form is None or form.repeats


def _not_in_files(source: str) -> Form | None:
    return next((form for form in FORMS if not form.is_path and form.claims(source, Path())), None)


def is_data_file(path: Path) -> bool:
    """Whether a file would be read as data in a folder of such."""
    return path.suffix.lower() in {".npz", *SUFFIXES}


def _form(source: str, base: Path) -> Form | None:
    path = base / source
    if is_path(source) and unreadable(path, or_folder=True):
        return None
    return next((form for form in FORMS if form.claims(source, path)), None)


def _unclaimed(source: str, path: Path) -> DataError:
    why = unreadable(path, or_folder=True)
    if is_absent(path):
        beside = [file.name for file in path.parent.iterdir()] if path.parent.is_dir() else []
        return DataError(f"the data does not exist{did_you_mean(path.name, beside)}", place=Place(source))
    if why:
        return DataError(f"the data {why}", place=Place(source))
    if path.is_dir():
        return DataError("the folder holds no .npz files and no images", place=Place(source))
    forms, kind = ", ".join(form.name for form in FORMS), kind_of_file(path)
    told = f"data of this kind is not known: it is {kind.what}" if kind else "data of this kind is not known"
    return DataError(told, hint=f"data is one of: {forms}", place=Place(source))
