"""The teacher: another ONNX file, or the model as it was before this run; and what its tensors hold for a batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from ...errors import PassError, did_you_mean, raise_all
from ...graph.clean.duplicates import RANDOM
from ...graph.edit import constant_of
from ...graph.part import find
from ...lazy import ir
from ...model import Model, load
from ...passes import Context
from ...runtime import Arrays, Feeds, Session, open_session


def load_teacher(path: str | None, ctx: Context) -> Model:
    """The model of the file, relative to the recipe; without one the earlier model that the pass needs."""
    if path is not None:
        return load(ctx.folder / Path(path).expanduser())
    if ctx.earlier is None:
        hint = "give one: teacher: FILE.onnx, or put the step behind the one that changes the model, in the same recipe"
        raise PassError("there is no teacher", hint=hint)
    return ctx.earlier


def refuse_random(model: Model, who: str) -> None:
    """What a model draws at random is no target, and no loss could be told from luck."""
    raise_all(
        PassError(
            f"the {who} draws random numbers: {node.op_type} '{node.name}'",
            hint="export it for inference, without training_mode and without random operators",
        )
        for node in model.nodes()
        if _is_random(node)
    )


def _is_random(node: ir.Node) -> bool:
    if node.op_type != "Dropout":
        return node.op_type in RANDOM
    mode = node.inputs[2] if len(node.inputs) > 2 else None
    known = constant_of(mode)
    return mode is not None and (known is None or bool(known.numpy()))


class Tensors:
    """Some tensors of a model, outputs or inner ones, computed by onnxruntime; no more of the model is run."""

    def __init__(self, model: Model, names: Iterable[str], ctx: Context) -> None:
        self.names = list(dict.fromkeys(names))
        part = model.copy()
        part.graph.outputs[:] = [find(part, name) for name in self.names]
        part.drop_unused()
        with part.exported() as path:
            self._session: Session = open_session(path, ctx.providers, threads=ctx.threads)

    def of(self, feeds: Feeds) -> Arrays:
        return self._session.run(self._session.taken(feeds), self.names)

    def missing(self, feeds: Feeds) -> list[str]:
        """Inputs that feeds lack."""
        return [port.name for port in self._session.inputs if port.name not in feeds]


def matching(pattern: str, model: Model) -> list[str]:
    """The float tensors that nodes give whose names a glob pattern matches, in graph order."""
    names = [name for name in _tensor_names(model) if name == pattern] or [
        name for name in _tensor_names(model) if fnmatchcase(name, pattern)
    ]
    return list(dict.fromkeys(names))


def _tensor_names(model: Model) -> Iterator[str]:
    for node in model.graph:
        yield from (value.name for value in node.outputs if value.name)


def pairs_of(patterns: dict[str, str], student: Model, teacher: Model) -> list[tuple[str, str]]:
    """Tensors of the student and the teacher that belong together, patterns resolved in graph order."""
    found = []
    for mine, theirs in patterns.items():
        ours, others = _found(mine, student, "student"), _found(theirs, teacher, "teacher")
        if len(ours) != len(others):
            raise PassError(
                f"pairs: '{mine}' matches {len(ours)} tensors of the student, '{theirs}' {len(others)} of the teacher",
                hint=f"of the student: {_some(ours)}; of the teacher: {_some(others)}",
            )
        found += list(zip(ours, others, strict=True))
    return found


def _found(pattern: str, model: Model, who: str) -> list[str]:
    names = matching(pattern, model)
    if not names:
        close = did_you_mean(pattern, _tensor_names(model))
        raise PassError(f"pairs: no tensor of the {who} is called '{pattern}'{close}", hint="patterns are globs")
    return names


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")
