"""A study of Optuna: what to try next, by what came of all that was tried, here, by other processes, or earlier.

What a trial is suggested follows from the seed, the number of the trial and the trials that are done: a study that is
gone on with, and several processes, need no state but the database. The sampler is TPE (Bergstra et al. 2011,
https://papers.nips.cc/paper/4443): of each choice it models where good trials lie, l(x), and where the others, g(x),
and takes the largest l(x) / g(x) of some draws from l.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ...errors import OnnxpressError, UsageError
from .storage import opened, optuna_module, shown, told

if TYPE_CHECKING:
    import optuna

T = TypeVar("T")
_NAME = "onnxpress auto"
_RANDOM = 6  # trials before the sampler has something to go by
_SEEDS = 2**32
_PRIME = 1_000_003  # keeps the seeds of one study's trials apart from those of another's


@dataclass(frozen=True)
class Record:
    """A trial that is done: its number, its value, its choices, and what was kept of it."""

    number: int
    value: float
    choices: Mapping[str, Any]
    kept: Mapping[str, Any]


@dataclass
class Study:
    """A study at ``place``; ``seed`` is that of all suggestions."""

    place: str | Path
    raw: optuna.Study
    seed: int

    def ask(self) -> optuna.Trial:
        """A new trial, which suggests its choices when it is asked for them."""
        with self._used():
            trial = self.raw.ask()
            seed = (self.seed * _PRIME + trial.number) % _SEEDS
            sampler = optuna_module().samplers.TPESampler
            self.raw.sampler = sampler(seed=seed, n_startup_trials=_RANDOM, multivariate=False)
        return trial

    def suggested(self, trial: optuna.Trial, choose: Callable[[optuna.Trial], T]) -> T:
        """What the trial suggests where it is asked by ``choose``."""
        with self._used():
            return choose(trial)

    def tell(self, trial: optuna.Trial, value: float, kept: Mapping[str, Any]) -> None:
        """What came of a trial, to be minimized, and plain data that is kept with it."""
        with self._used():
            for name, entry in kept.items():
                trial.set_user_attr(name, entry)
            self.raw.tell(trial, value)

    def give_back(self, trial: optuna.Trial) -> None:
        """A trial that was not brought to its end: another tries the same. Faults of the storage are let be."""
        states = optuna_module().trial.TrialState
        with suppress(OnnxpressError), self._used():
            self.raw.tell(trial, state=states.FAIL)
            self.raw.enqueue_trial(trial.params)

    def drop(self, trial: optuna.Trial) -> None:
        """A trial of what has been tried before."""
        with self._used():
            self.raw.tell(trial, state=optuna_module().trial.TrialState.FAIL)

    def begin_with(self, choices: Sequence[Mapping[str, Any]]) -> None:
        """What is tried first, in a study that has no trials yet."""
        with self._used():
            if not self.raw.trials:
                for each in choices:
                    self.raw.enqueue_trial(dict(each), skip_if_exists=True)

    def records(self) -> list[Record]:
        """All trials that are done, whoever did them."""
        states = optuna_module().trial.TrialState
        with self._used():
            done = self.raw.get_trials(deepcopy=False, states=(states.COMPLETE,))
        return [Record(each.number, each.value or 0.0, each.params, each.user_attrs) for each in done]

    def is_known(self, trial: optuna.Trial) -> bool:
        """Whether another trial, done or at work, has the same choices."""
        states = optuna_module().trial.TrialState
        with self._used():
            others = self.raw.get_trials(deepcopy=False, states=(states.COMPLETE, states.RUNNING))
        return any(each.params == trial.params for each in others if each.number != trial.number)

    @contextmanager
    def _used(self) -> Iterator[None]:
        with told(self.place), _quiet():
            yield


@contextmanager
def _quiet() -> Iterator[None]:
    """Optuna's log is for those who program it."""
    log = logging.getLogger("optuna")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)


def study_at(place: str | Path, identity: Mapping[str, str], seed: int, *, must_be_there: bool = False) -> Study:
    """The study at a place, begun where there is none, which belongs to the job that ``identity`` describes.

    Raises UsageError for the study of another job, naming what differs, and for none where one must be there.
    """
    optuna = optuna_module()
    if must_be_there and isinstance(place, Path) and not place.exists():
        raise _nothing_there(place)
    storage = opened(place)
    with told(place), _quiet():
        if must_be_there and not optuna.get_all_study_names(storage):
            raise _nothing_there(place)
        raw = optuna.create_study(storage=storage, study_name=_NAME, load_if_exists=True)
        if not raw.user_attrs:
            raw.set_user_attr("job", dict(identity))
        found = raw.user_attrs.get("job", {})
    if found != identity:
        raise _of_another_job(place, found, identity)
    return Study(place, raw, seed)


def _nothing_there(place: str | Path) -> UsageError:
    return UsageError(f"there is no search in {shown(place)} to go on with", hint="start without --resume")


def _of_another_job(place: str | Path, found: Mapping[str, str], identity: Mapping[str, str]) -> UsageError:
    names = [name for name in {**identity, **found} if found.get(name) != identity.get(name)]
    told_of = "; ".join(
        f"{name}: {_or_none(found.get(name))} there, {_or_none(identity.get(name))} here" for name in names
    )
    hint = "name another --storage, or give the same model, data and limits again"
    return UsageError(f"{shown(place)} holds the search of another job: {told_of}", hint=hint)


def _or_none(value: str | None) -> str:
    return value or "none"
