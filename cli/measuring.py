"""What compare and bench share: measure models and show the comparison."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from compress_ops.errors import UsageError
    from compress_ops.model import Model

    from . import options
    from .show import Manner


def measure(models: Sequence[Path], manner: Manner, timing: options.Timing, **asked: Any) -> None:
    """Measure models side by side; ``asked`` goes to compare_models."""
    from compress_ops.errors import raise_all
    from compress_ops.measure.comparison import compare_models
    from compress_ops.measure.feeds import Measure
    from compress_ops.model import load
    from compress_ops.report.report import plain
    from compress_ops.report.tables import comparison_page

    from .flags import made_up, providers, said
    from .progress import watching
    from .show import end_undelivered, give

    settings = Measure(**said({"batch": timing.batch, "seconds": timing.seconds}), **made_up(timing))
    asked |= {"settings": settings, "providers": providers(timing.provider)}
    asked |= said({"threads": timing.threads, "seed": timing.seed})
    paths = named(models)
    loaded = {path: load(path) for path in dict.fromkeys(models)}  # through the gate, before onnxruntime sees them
    raise_all(_other_inputs({path: _inputs(model) for path, model in loaded.items()}))
    with watching(quiet=manner.quiet) as progress:
        comparison = compare_models(paths, progress=progress, **asked)
    end_undelivered(give(comparison_page(comparison), lambda beside: plain(comparison), manner))


def _inputs(model: Model) -> dict[str, str]:
    """Types of the inputs that must be fed, by name."""
    fed = [value for value in model.graph.inputs if value.name not in model.defaults]
    return {value.name or "": value.dtype.name.lower() if value.dtype else "unknown" for value in fed}


def _other_inputs(inputs: Mapping[Path, Mapping[str, str]]) -> Iterator[UsageError]:
    """Models that cannot be fed what the first one is fed."""
    from compress_ops.errors import UsageError

    (first, expected), *others = inputs.items()
    for path, found in others:
        if found != expected:
            message = f"{path} takes {_listed(found)}; {first} takes {_listed(expected)}"
            yield UsageError(message, hint="models can be compared if their inputs have the same names and types")


def _listed(inputs: Mapping[str, str]) -> str:
    return ", ".join(f"{name} ({kind})" for name, kind in inputs.items()) or "no inputs"


def check_outputs(manner: Manner, models: Sequence[Path], data: str | None = None) -> None:
    """Raise all faults of the files that the answer goes to."""
    from compress_ops.data.forms.table import is_path
    from compress_ops.errors import raise_all
    from compress_ops.files.writing import Input, output_faults

    read = [Input(model, "a model") for model in models]
    read += [Input(Path(data), "the data")] if data is not None and is_path(data) else []
    raise_all(output_faults(manner.outputs, read, force=manner.force))


def named(models: Sequence[Path]) -> dict[str, Path]:
    """A name for each model: its file's, or its path where two files have one name.

    A file that is given again is numbered: timed against itself, it shows how far apart two equal models can seem.
    """
    names = [path.name for path in dict.fromkeys(models)]
    chosen = [path.name if names.count(path.name) == 1 else str(path) for path in models]
    before = [chosen[:position].count(name) for position, name in enumerate(chosen)]
    numbered = [f"{name} ({times + 1})" if times else name for name, times in zip(chosen, before, strict=True)]
    return dict(zip(numbered, models, strict=True))
