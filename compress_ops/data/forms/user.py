"""Data from the user's own function, written ``user:module:function``.

The module is looked for in the recipe's folder first, then among installed ones. The function takes no argument
and returns an iterable of whole feeds, ``{input: array}``, or of pairs ``(feeds, labels)``. It is called again for
every pass over the data, so it must give the same samples each time. Its code runs only with ``--allow-code``,
and leaves no ``__pycache__`` in the user's folder.
"""

from __future__ import annotations

import hashlib
import importlib
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from importlib.util import module_from_spec, spec_from_file_location
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ...errors import DataError, OnnxpressError, Place, did_you_mean, raise_all
from ...runtime import Arrays, Port
from ..base import Batch, Dataset, DataSettings
from ..fit import feed_faults
from ..headers import Header
from ..values import check_finite
from .folder import whole_batch

_LABELS = "labels of the pair"
_SHAPE = "it must return an iterable of {input: array}, or of ({input: array}, labels)"


class UserData(Dataset):
    """What the user's function yields, checked feed by feed."""

    def __init__(
        self,
        name: str,
        module: ModuleType,
        function: Callable[[], Iterable[Any]],
        ports: Sequence[Port],
        base: DataSettings,
    ) -> None:
        self.name, self._place = name, Place(name)
        self._module, self._function = module, function
        self._ports, self._settings = ports, replace(base, labels=_LABELS)
        first = next(self.batches(limit=1))
        if base.required_labels is not None and first.labels is None:
            hint = "metrics need them: give pairs ({input: array}, labels)"
            raise DataError("the samples have no labels", hint=hint, place=self._place)

    def __len__(self) -> int:
        return self._samples

    @cached_property
    def _samples(self) -> int:
        return sum(batch.size for batch in self.batches())

    def batches(self, limit: int | None = None) -> Iterator[Batch]:
        number = -1
        for number, item in enumerate(islice(self._items(), limit)):
            arrays = self._checked(item, number)
            yield whole_batch(arrays, self._ports, self._settings)
        if number < 0 and limit != 0:
            hint = f"{_SHAPE}, a new one each time that it is called"
            raise DataError("the function gave no samples", hint=hint, place=self._place)

    def digest(self) -> str:
        """Over the module's source; files that it reads are not covered."""
        source = Path(self._module.__file__).read_bytes() if self._module.__file__ else b""
        return hashlib.sha256(self.name.encode() + source).hexdigest()

    def _items(self) -> Iterator[Any]:
        try:
            yield from _leaving_no_bytecode(self._function)
        except OnnxpressError:
            raise
        except Exception as error:
            raise _failed(error, self._place, Path(self._module.__file__ or "")) from error

    def _checked(self, item: Any, number: int) -> Arrays:
        """The arrays of one item, its labels among them."""
        feeds, labels = item if isinstance(item, tuple) and len(item) == 2 else (item, None)
        if not isinstance(feeds, dict):
            raise DataError(f"sample {number} is of type {type(feeds).__name__}", hint=_SHAPE, place=self._place)
        arrays = feeds if labels is None else {**feeds, _LABELS: labels}
        for name, array in arrays.items():
            if not isinstance(array, np.ndarray):
                message = f"sample {number}: '{name}' is of type {type(array).__name__}, not a NumPy array"
                raise DataError(message, hint="wrap it: np.asarray(..., dtype=...)", place=self._place)
        headers = {name: Header(array.dtype, array.shape) for name, array in arrays.items()}
        settings = replace(self._settings, labels=None if labels is None else _LABELS)
        raise_all(feed_faults(self._place, headers, self._ports, settings))
        for name, array in arrays.items():
            check_finite(self._place, name, array[None], number)
        return arrays


def open_user(source: str, ports: Sequence[Port], settings: DataSettings) -> Dataset:
    place = Place(source)
    _, _, named = source.partition(":")
    module_name, _, function_name = named.partition(":")
    if not module_name or not function_name.isidentifier():
        raise DataError("not of the form user:module:function", place=place)
    if not settings.allow_code:
        hint = "add --allow-code if you trust it"
        raise DataError(f"this runs the code of '{module_name}'", hint=hint, place=place)
    module = _load(module_name, settings.base, place)
    function = getattr(module, function_name, None)
    if not callable(function):
        message = f"module '{module_name}' has no function '{function_name}'{did_you_mean(function_name, vars(module))}"
        raise DataError(message, place=place)
    return UserData(source, module, function, ports, settings)


def _load(name: str, base: Path, place: Place) -> ModuleType:
    """By file where the folder has one: importing by name would give ``random.py`` the standard library's module."""
    file = base / f"{name}.py"
    source = base / f"{name.replace('.', '/')}.py"
    folder = str(base.resolve())
    if folder not in sys.path:
        sys.path.append(folder)  # stays: the function may import its neighbours when it runs; last, so it hides nothing
    try:
        with _no_bytecode():
            return _load_file(file) if file.is_file() else importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise DataError(error.msg, hint=f"looked for {file} and among installed modules", place=place) from error
    except Exception as error:
        raise _failed(error, place, source) from error


def _load_file(file: Path) -> ModuleType:
    spec = spec_from_file_location(f"onnxpress_user_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} cannot be imported")
    module = sys.modules[spec.name] = module_from_spec(spec)  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


def _leaving_no_bytecode(function: Callable[[], Iterable[Any]]) -> Iterator[Any]:
    """Its items. Only while it works: between two of them the process is its owner's."""
    end = object()
    with _no_bytecode():
        items = iter(function())
    while True:
        with _no_bytecode():
            item = next(items, end)
        if item is end:
            return
        yield item


@contextmanager
def _no_bytecode() -> Iterator[None]:
    """What is imported within leaves no ``__pycache__`` beside its source."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before


def _failed(error: Exception, place: Place, source: Path) -> DataError:
    """An exception of the user's code, and the last of its lines that led there: what it calls is not to blame."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename).resolve() == source.resolve()]
    last = (own or frames)[-1]
    where, line = (error.filename, error.lineno) if isinstance(error, SyntaxError) else (last.filename, last.lineno)
    return DataError(f"{type(error).__name__}: {error}", hint=f"raised at {where}:{line}", place=place)
