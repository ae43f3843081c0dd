"""A short recipe that suits one model and runs as it is: the int8 recipe without data that shrinks it, tried on it.

What needs data, or costs accuracy, stands beside it as a comment: taking away ``# `` makes it count.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from ..data import DataSettings, feed_that_runs
from ..errors import DataError, OnnxpressError
from ..model import Model, load
from ..pipeline.job import Job, Prepared, with_passes
from ..pipeline.steps import apply_steps
from ..recipe import LoadedRecipe, Recipe, Step
from ..report import units
from ..report.report import StepReport
from ..report.visible import visible, without_commands
from ..runtime import Arrays, Port, Session, open_session
from .candidates import candidates
from .preparing import begun, steps_of

_LENGTH = 64  # of a sequence whose length is free: one alone says little about time
_LISTED = 4  # inputs that are described
_LANGUAGE = "perplexity"
_WORTH = 0.95  # of the size: what saves less is not worth a step
_CUT = ("Conv", "Gemm", "MatMul")


@dataclass(frozen=True)
class _Tried:
    """Steps, and what each did to the model."""

    steps: Sequence[Step]
    reports: Sequence[StepReport]

    @property
    def share(self) -> float:
        return self.reports[-1].bytes_after / self.reports[0].bytes_before


def suggestion(model: Path, folder: Path) -> str:
    """The text of a recipe for the model, its path relative to ``folder``, of at most 40 lines.

    Raises ModelError where the model cannot be read, or onnxruntime refuses it.
    """
    loaded, session = load(model), open_session(model, optimize=False)
    feed = _feed(session)
    metric = _metric(session)
    tried = _best(model, speaks=metric == _LANGUAGE)
    name = Path(os.path.relpath(model, folder)).as_posix()
    lines = [
        f"## A recipe for {_shown(model.name)}, to run as it is:",
        f"##   onnxpress run recipe.yaml -o {_shown(model.stem)}-small.onnx",
        "## onnxpress quantize tries several such recipes, and takes the one that gains most.",
        '## Lines that begin with "# " are ways to go on: take the "# " away to use them.',
        "version: 1",
        f"model: {_yaml(name)}",
        *_data(session, metric),
        *_measure(session.inputs, feed),
        *_passes(tried, loaded),
        *_budget(tried),
    ]
    return "\n".join(lines) + "\n"


def _feed(session: Session) -> Arrays | None:
    """Made-up inputs that run: sequences of some length, where their lengths have names, else whatever runs."""
    sequences = [port.shape[1:] for port in session.inputs if len(port.shape) < 4]
    names = {size for shape in sequences for size in shape if isinstance(size, str)}
    for dims in (dict.fromkeys(names, _LENGTH), {}):
        try:
            return feed_that_runs(session.inputs, DataSettings(batch_size=1, dims=dims), session.run)
        except DataError:
            continue
    return None


def _best(model: Path, *, speaks: bool) -> _Tried | None:
    """What shrinks the model most, else simplify alone; None where not even that works.

    Convolutions whose ranges are not fixed are slow, and stay out. Models of language (``speaks``) keep float
    arithmetic, in which 8-bit weights cost them next to nothing.
    """
    recipe = LoadedRecipe(Recipe(version=1, passes=steps_of([{"simplify": {}}])))
    prepared = Prepared(Job(recipe, model, out=None), load(model), data={}, original_bytes=0)
    first = begun(prepared)
    found = [one.passes for one in candidates(first, "cpu") if one.float_arithmetic >= speaks]
    ways = (_tried(first, steps) for steps in found if not any(map(_is_slow, steps)))
    worked = [way for way in ways if way is not None and way.share < _WORTH]
    return min(worked, key=lambda way: way.share) if worked else _tried(prepared, recipe.recipe.passes)


def _is_slow(step: Step) -> bool:
    return step.operation.name == "quantize_dynamic" and "Conv" in step.arguments()["operators"]


def _tried(prepared: Prepared, steps: Sequence[Step]) -> _Tried | None:
    """What the steps do to the model; None where one fails, or breaks its promise."""
    one = replace(prepared, job=with_passes(prepared.job, list(steps)), model=prepared.model.copy())
    try:
        return _Tried(steps, [*apply_steps(one)])
    except OnnxpressError:
        return None


def _data(session: Session, metric: str) -> Iterator[str]:
    ports = [_shown(f"{port.name}: {port.dtype} {_shape(port)}") for port in session.inputs]
    more = [f"... and {len(ports) - _LISTED} more"] if len(ports) > _LISTED else []
    yield "# data: # a .npz that stacks samples in arrays named as the inputs, or another form (see the tutorial)"
    yield from (f"##   {port}" for port in [*ports[:_LISTED], *more])
    yield "#   calibration: calibration.npz"
    yield f"#   evaluation: {{path: test.npz, labels: label, metrics: [{metric}]}}"


def _shown(text: str) -> str:
    """What others named, in a comment."""
    return without_commands(visible(text))


def _shape(port: Port) -> str:
    return f"[{', '.join(str(size or '?') for size in port.shape)}]"


def _metric(session: Session) -> str:
    """What such outputs are most often judged by: classes, next tokens, or numbers."""
    shape, first = session.outputs[0].shape, session.inputs[0] if session.inputs else None
    if len(shape) == 3 and first is not None and first.dtype.startswith("int"):
        return _LANGUAGE
    return "top1" if len(shape) == 2 and shape[1] != 1 else "mse"


def _measure(ports: Sequence[Port], feed: Arrays | None) -> Iterator[str]:
    """Sizes of free dimensions beside the batch with which the model runs."""
    if feed is None:
        yield "# measure: {dims: {NAME: 64}, values: {NAME: 1}} # no made-up input runs: give sizes and numbers"
        return
    pairs = [(size, feed[port.name].shape[axis]) for port in ports for axis, size in enumerate(port.shape) if axis]
    dims = {size: length for size, length in pairs if isinstance(size, str)}
    shapes = {port.name: list(feed[port.name].shape) for port in ports if None in port.shape[1:]}
    sections = {name: sizes for name, sizes in {"dims": dims, "shapes": shapes}.items() if sizes}
    if sections:
        yield "measure: # sizes of free dimensions, as what is timed has them"
        yield from (f"  {name}: {_yaml(sizes)}" for name, sizes in sections.items())


def _passes(tried: _Tried | None, model: Model) -> Iterator[str]:
    yield "passes:"
    reports = tried.reports if tried is not None else []
    steps = tried.steps if tried is not None else steps_of([{"simplify": {}}])
    first = [step for step in steps if step.operation.name in ("upgrade_opset", "simplify")]
    yield from _lines(first, reports[: len(first)])
    yield from _cuts(model)
    yield from _lines(steps[len(first) :], reports[len(first) :])
    if len(steps) == len(first):
        yield "## nothing was found that int8 makes smaller; onnxpress passes lists all passes"
    elif any(node.op_type in _CUT for node in model.nodes()):
        yield "## in place of the steps that quantize, with calibration data: activations in int8, too, which is faster"
        yield "#   - quantize_static: {allow_unchanged: true}"


def _lines(steps: Sequence[Step], reports: Sequence[StepReport]) -> Iterator[str]:
    for step, report in zip(steps, reports, strict=False):
        said = f"{units.size(report.bytes_before)} -> {units.size(report.bytes_after)}"
        touched = f"touches {units.count(len(report.touched))}: " if report.touched else ""
        yield f"  - {_written(step)} # {touched}{said}"


def _written(step: Step) -> str:
    written = step.written()
    return written if isinstance(written, str) else "".join(f"{name}: {_yaml(of)}" for name, of in written.items())


def _cuts(model: Model) -> Iterator[str]:
    counts = {kind: sum(node.op_type == kind for node in model.nodes()) for kind in _CUT}
    held = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
    if held:
        yield f"#   - prune_channels: {{ratio: 0.3}} # of {held}: faster, less accurate"
        yield "#   - refit # with calibration data: brings accuracy back"


def _budget(tried: _Tried | None) -> Iterator[str]:
    """The size that was reached, and a tenth more, is the limit; the rest follows from what a deployment needs."""
    share = tried.share if tried is not None else 1.0
    off = "" if share < _WORTH else "# "
    yield f"{off}budget: # what is missed ends with exit status 1"
    yield f"{off}  max_size: {math.ceil(share * 1.1 * 20) * 5 if not off else 50}%"
    yield "#   min_speedup: 1"
    yield "#   min_closeness: 0.99 # of outputs to the original's; judged on the data, where there is some"
    yield "#   max_drop: 1% # of the first metric of data.evaluation"


def _yaml(value: Any) -> str:
    """A value in one line: as JSON where a name holds line breaks, or a command of GitHub's logs, which it escapes."""
    dumped: str = yaml.safe_dump(value, default_flow_style=True, width=10**6, sort_keys=False)
    text = dumped.removesuffix("...\n").strip()
    return json.dumps(value).replace("##[", "\\u0023#[") if "\n" in text or "##[" in text else text
