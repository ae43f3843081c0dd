"""What the student is to give: its outputs matched with the teacher's, inner tensors with theirs, labels, the mask."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..data import Batch, Dataset
from ..errors import DataError, OnnxpressError, PassError, did_you_mean, raise_all
from ..measure.labels import IGNORED, class_labels
from ..measure.padding import kept_positions
from ..model import Model
from ..passes import Context
from ..runtime import Arrays, Feeds
from .autodiff.prepare import find
from .losses import Inputs, Kind, Nature, Target, nature_of
from .losses.pairs import LabelForm, Shape
from .teacher import Tensors, pairs_of

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

_LOOKED_AT = 64  # batches, for one with padding
_LEAST = 1e-12  # of a probability, before its logarithm


@dataclass(frozen=True)
class Fetch:
    """A tensor of the teacher; ``logarithm``: it holds probabilities whose logarithm is wanted."""

    tensor: str
    logarithm: bool = False

    def take(self, found: Arrays) -> Array:
        import numpy as np

        array = found[self.tensor].astype(np.float32)
        return np.log(np.maximum(array, _LEAST)) if self.logarithm else array


@dataclass(frozen=True)
class Targets:
    """Everything that is compared. ``outputs`` and ``pairs`` tell the student's tensors, the fetches the teacher's.

    ``labels`` and ``mask`` tell in which form labels come and of which shape a batch's mask is, if there are any.
    """

    outputs: Mapping[str, Target]
    pairs: list[Target]
    output_fetches: Mapping[str, Fetch]
    pair_fetches: list[Fetch]
    labels: LabelForm | None
    mask: Shape | None

    @property
    def natures(self) -> dict[str, Nature]:
        return {name: target.nature for name, target in self.outputs.items() if target.nature is not None}


def find_targets(
    student: Model, teacher: Model, ctx: Context, data: Dataset, match: dict[str, str], pairs: dict[str, str]
) -> Targets:
    """Match the tensors of both models and look at what they hold for one batch; raises all misfits together."""
    matched = _matched_outputs(student, teacher, match)
    inner = pairs_of(pairs, student, teacher)
    batch = telling_batch(data)
    ours = _values(student, [*matched, *(mine for mine, _ in inner)], ctx, batch.feeds, "student")
    theirs = _values(teacher, [*matched.values(), *(other for _, other in inner)], ctx, batch.feeds, "teacher")
    matched = {mine: other for mine, other in matched.items() if _are_tensors(ours[mine], theirs[other])}
    floats = {mine: other for mine, other in matched.items() if ours[mine].dtype.kind == "f"}
    raise_all([*_misfits(matched, ours, theirs), *_not_tensors(inner, ours, theirs)])
    if not floats:
        raise PassError(
            "no output of the student is a tensor of floats", hint="distillation needs an output with a gradient"
        )
    natures = {mine: _natures(student, teacher, mine, other, ours, theirs) for mine, other in floats.items()}
    kept = kept_positions(batch.feeds)
    return Targets(
        outputs={
            mine: Target(mine, ours[mine].shape, theirs[other].shape, natures[mine][0])
            for mine, other in floats.items()
        },
        pairs=[_inner_target(student, mine, ours[mine], theirs[other]) for mine, other in inner],
        output_fetches={mine: natures[mine][1] for mine in floats},
        pair_fetches=[Fetch(other) for _, other in inner],
        labels=_label_form(batch.labels),
        mask=kept.shape if kept is not None else None,
    )


def _are_tensors(*values: object) -> bool:
    """Not sequences, maps or what is absent: these come out as they are, and nothing is learned of them."""
    return all(hasattr(value, "dtype") for value in values)


def _matched_outputs(student: Model, teacher: Model, match: dict[str, str]) -> dict[str, str]:
    ours = [value.name or "" for value in student.graph.outputs]
    theirs = [value.name or "" for value in teacher.graph.outputs]
    faults: list[OnnxpressError] = []
    for name in match:
        if name not in ours:
            faults.append(PassError(f"match: the student has no output '{name}'{did_you_mean(name, ours)}"))
    for mine in ours:
        other = match.get(mine, mine)
        if other not in theirs:
            hint = f"the teacher's outputs are: {', '.join(theirs)}; map them: match: {{{mine}: {theirs[0]}}}"
            faults.append(PassError(f"the teacher has no output '{other}'{did_you_mean(other, theirs)}", hint=hint))
    raise_all(faults)
    return {mine: match.get(mine, mine) for mine in ours}


def telling_batch(data: Dataset) -> Batch:
    """The first batch with padding, else the first."""
    first = None
    for batch in data.batches(limit=_LOOKED_AT):
        first = first or batch
        if kept_positions(batch.feeds) is not None:
            return batch
    if first is None:
        raise DataError(f"{data.name} has no samples")
    return first


def _values(model: Model, names: Iterable[str], ctx: Context, feeds: Feeds, who: str) -> Arrays:
    tensors = Tensors(model, names, ctx)
    if missing := tensors.missing(feeds):
        raise PassError(f"the {who} reads inputs that the data lacks: {', '.join(missing)}")
    return tensors.of(feeds)


def _misfits(matched: Mapping[str, str], ours: Arrays, theirs: Arrays) -> Iterator[PassError]:
    for mine, other in matched.items():
        a, b = ours[mine], theirs[other]
        who = f"output '{mine}'" + (f" (the teacher's '{other}')" if other != mine else "")
        if (a.dtype.kind == "f") != (b.dtype.kind == "f"):
            yield PassError(f"{who}: the student gives {a.dtype}, the teacher {b.dtype}", hint=_MATCH)
        elif a.shape != b.shape:
            yield PassError(f"{who}: the student gives {list(a.shape)}, the teacher {list(b.shape)}", hint=_MATCH)


def _not_tensors(pairs: Iterable[tuple[str, str]], ours: Arrays, theirs: Arrays) -> Iterator[PassError]:
    for mine, other in pairs:
        if not _are_tensors(ours[mine], theirs[other]):
            yield PassError(f"pairs: '{mine}' and '{other}' are not both tensors", hint="name tensors of both models")


_MATCH = "match: {student output: teacher output} says which belong together"


def _natures(
    student: Model, teacher: Model, mine: str, other: str, ours: Arrays, theirs: Arrays
) -> tuple[Nature, Fetch]:
    """What the output is to both; the teacher's numbers tell more, unless the student ends in a Softmax."""
    own = nature_of(find(student, mine), ours[mine])
    wanted = nature_of(find(teacher, other), theirs[other])
    leading = own if own.kind is Kind.PROBABILITIES else wanted
    nature = replace(own, kind=leading.kind, axis=leading.axis)
    return nature, Fetch(wanted.logits or other, wanted.logarithm)


def _inner_target(student: Model, name: str, ours: Array, theirs: Array) -> Target:
    producer = find(student, name).producer()
    return Target(name, ours.shape, theirs.shape, probabilities=producer is not None and producer.op_type == "Softmax")


def _label_form(labels: Array | None) -> LabelForm | None:
    if labels is None:
        return None
    return "shares" if labels.dtype.kind == "f" and labels.ndim > 1 else "numbers"


@dataclass(frozen=True)
class Enricher:
    """Adds to a batch's feeds what the teacher gives for it, its labels and its mask, by the names of the inputs."""

    targets: Targets
    inputs: Inputs
    teacher: Tensors | None

    def __call__(self, batch: Batch) -> Arrays:
        found = self.teacher.of(batch.feeds) if self.teacher is not None else {}
        arrays = dict(batch.feeds)
        for output, name in self.inputs.outputs.items():
            arrays[name] = self.targets.output_fetches[output].take(found)
        for number, name in self.inputs.pairs.items():
            arrays[name] = self.targets.pair_fetches[number].take(found)
        if self.inputs.labels is not None:
            arrays[self.inputs.labels] = self._labels(batch)
        if self.inputs.mask is not None:
            arrays[self.inputs.mask] = self._mask(batch.feeds, arrays)
        return arrays

    def _labels(self, batch: Batch) -> Array:
        """As whole numbers, -1 where a position does not count; or as shares of the classes."""
        import numpy as np

        if batch.labels is None:
            raise DataError("cross_entropy needs labels", hint="name the array that holds them, or use another loss")
        target = next(iter(self.targets.outputs.values()))
        if self.targets.labels == "shares":
            return batch.labels.astype(np.float32)
        places = [size for i, size in enumerate(target.shape) if i != target.axis]
        # one sample stands for the scores of all: only their shape is looked at
        scores = np.broadcast_to(np.zeros(1), (len(batch.labels), *places[1:], target.shape[target.axis]))
        numbers = class_labels(scores, batch.labels)
        return np.where(np.isin(numbers, IGNORED), -1, numbers)

    def _mask(self, feeds: Feeds, arrays: Arrays) -> Array:
        import numpy as np

        kept = kept_positions(feeds)
        rank = len(self.targets.mask or ())
        if kept is not None and kept.ndim == rank:
            return kept.astype(np.float32)
        names = [*self.inputs.outputs.values(), *self.inputs.pairs.values()]
        leading = next(arrays[name].shape[:rank] for name in names if arrays[name].ndim > rank)
        return np.ones(leading, np.float32)

    @staticmethod
    def tensors(targets: Targets, inputs: Inputs) -> list[str]:
        """Those of the teacher that the inputs ask for."""
        outputs = [targets.output_fetches[output].tensor for output in inputs.outputs]
        return [*outputs, *(targets.pair_fetches[number].tensor for number in inputs.pairs)]
