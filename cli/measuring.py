"""What compare and bench share: measure models and show the comparison."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .show import Manner


def measure(models: Sequence[Path], manner: Manner, **asked: Any) -> None:
    """Measure models side by side; ``asked`` goes to compare_models."""
    from compress_ops.measure.comparison import compare_models
    from compress_ops.measure.report import plain
    from compress_ops.measure.tables import comparison_page

    from .progress import watching
    from .show import give

    paths = named(models)
    with watching(quiet=manner.quiet) as progress:
        comparison = compare_models(paths, progress=progress, **asked)
    give(comparison_page(comparison), lambda beside: plain(comparison), manner)


def named(models: Sequence[Path]) -> dict[str, Path]:
    """A name for each model: its file's, or its path where two files have the same name."""
    from compress_ops.errors import UsageError

    names = [path.name for path in models]
    chosen = [path.name if names.count(path.name) == 1 else str(path) for path in models]
    if len(set(chosen)) < len(chosen):
        raise UsageError("the same model is given twice")
    return dict(zip(chosen, models, strict=True))
