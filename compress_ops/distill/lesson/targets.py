"""What the student is to give: its outputs matched with the teacher's, inner tensors with theirs, labels, the mask."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from ...arrays import Array
from ...data import Batch, Dataset
from ...errors import DataError, OnnxpressError, PassError, did_you_mean, raise_all
from ...graph.part import find
from ...measure.closeness.padding import kept_positions
from ...measure.metrics.fitting_labels import IGNORED, class_labels
from ...model import Model
from ...passes import Context
from ...runtime import Arrays, Feeds
from ..losses import Inputs, Kind, Nature, Target, as_yes_or_no, may_be_logits, nature_of
from ..losses.pairs import LabelForm, Shape
from .adaptive import corrected, shares_of, two_classes
from .teacher import Tensors, pairs_of

_LOOKED_AT = 64  # batches, for one with padding
_LEAST = 1e-12  # of a probability, before its logarithm


@dataclass(frozen=True)
class Fetch:
    """A tensor of the teacher; ``logarithm``: it holds probabilities whose logarithm is wanted, or log p / (1 - p)."""

    tensor: str
    logarithm: bool = False
    odds: bool = False

    def take(self, found: Arrays) -> Array:
        array = found[self.tensor].astype(np.float32)
        if not self.logarithm:
            return array
        logarithm = np.log(np.maximum(array, _LEAST))
        return logarithm - np.log(np.maximum(1 - array, _LEAST)) if self.odds else logarithm


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
    student: Model,
    teacher: Model,
    ctx: Context,
    data: Dataset,
    match: dict[str, str],
    pairs: dict[str, str],
    *,
    classes: bool = False,
) -> Targets:
    """Match the tensors of both models and look at what they hold for one batch; raises all misfits together.

    ``classes``: losses of classes are asked for, so that a single number of a linear layer is a logit, not a quantity.
    Labels of 0 and 1 say so too.
    """
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
    classes = classes or _are_yes_or_no(batch.labels)
    natures = {mine: _natures(student, teacher, mine, other, ours, theirs, classes) for mine, other in floats.items()}
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
    student: Model, teacher: Model, mine: str, other: str, ours: Arrays, theirs: Arrays, classes: bool
) -> tuple[Nature, Fetch]:
    """What the output is to both; the teacher's numbers tell more, unless the student ends in a Softmax or Sigmoid."""
    value, source = find(student, mine), find(teacher, other)
    own, wanted = nature_of(value, ours[mine]), nature_of(source, theirs[other])
    leading = own if own.kind in (Kind.PROBABILITIES, Kind.YES_OR_NO) else wanted
    if leading.kind is Kind.YES_OR_NO or (classes and may_be_logits(leading, value, ours[mine])):
        own, wanted = as_yes_or_no(own, value, ours[mine]), as_yes_or_no(wanted, source, theirs[other])
        return own, Fetch(wanted.logits or other, wanted.logarithm, odds=True)
    nature = replace(own, kind=leading.kind, axis=leading.axis)
    return nature, Fetch(wanted.logits or other, wanted.logarithm)


def _are_yes_or_no(labels: Array | None) -> bool:
    return labels is not None and bool(np.isin(labels, (0, 1)).all())


def _inner_target(student: Model, name: str, ours: Array, theirs: Array) -> Target:
    producer = find(student, name).producer()
    return Target(name, ours.shape, theirs.shape, probabilities=producer is not None and producer.op_type == "Softmax")


def _label_form(labels: Array | None) -> LabelForm | None:
    if labels is None:
        return None
    return "shares" if labels.dtype.kind == "f" and labels.ndim > 1 else "numbers"


@dataclass(frozen=True)
class Enricher:
    """Adds to a batch's feeds what the teacher gives for it, its labels and its mask, by the names of the inputs.

    ``believed`` names the output whose teacher is believed as far as the labels say that it is right (``adaptive``).
    """

    targets: Targets
    inputs: Inputs
    teacher: Tensors | None
    believed: str | None = None

    def __call__(self, batch: Batch) -> Arrays:
        found = self.teacher.of(batch.feeds) if self.teacher is not None else {}
        arrays = dict(batch.feeds)
        for output, name in self.inputs.outputs.items():
            arrays[name] = self._given(output, found, batch)
        for number, name in self.inputs.pairs.items():
            arrays[name] = self.targets.pair_fetches[number].take(found)
        if self.inputs.labels is not None:
            arrays[self.inputs.labels] = self._labels(batch)
        if self.inputs.mask is not None:
            arrays[self.inputs.mask] = self._mask(batch.feeds, arrays)
        return arrays

    def _given(self, output: str, found: Arrays, batch: Batch) -> Array:
        array, target = self.targets.output_fetches[output].take(found), self.targets.outputs[output]
        if output != self.believed:
            return array
        scores = two_classes(array) if target.yes_or_no else array
        labels, classes = self._labels(batch), scores.shape[target.axis]
        shares = labels if self.targets.labels == "shares" else shares_of(labels, classes, target.axis)
        learned = corrected(scores, shares, target.axis)
        return learned[..., 1] - learned[..., 0] if target.yes_or_no else learned

    def _labels(self, batch: Batch) -> Array:
        """As whole numbers, -1 where a position does not count; or as shares of the classes."""
        if batch.labels is None:
            raise DataError("labels are needed", hint="name the array that holds them, or use another loss")
        target = next(iter(self.targets.outputs.values()))
        labels, single = batch.labels, target.yes_or_no and target.shape[1:] == (1,)
        labels = labels[:, None] if single and labels.ndim == 1 else labels
        if self.targets.labels == "shares":
            shares = labels.astype(np.float32)
            return np.stack([1 - shares, shares], axis=-1) if target.yes_or_no else shares
        classes = 2 if target.yes_or_no else target.shape[target.axis]
        places = [size for i, size in enumerate(target.shape) if i != target.axis]
        # one sample stands for the scores of all: only their shape is looked at
        scores = np.broadcast_to(np.zeros(1), (len(labels), *places[1:], classes))
        numbers = class_labels(scores, labels)
        return np.where(np.isin(numbers, IGNORED), -1, numbers)

    def _mask(self, feeds: Feeds, arrays: Arrays) -> Array:
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
