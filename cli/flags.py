"""Flags that win over what a recipe says."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from compress_ops.recipe import LoadedRecipe
    from compress_ops.recipe.types import Data, Measure
    from compress_ops.runtime import Provider

    from .options import Size, Value


class Flags(NamedTuple):
    """What was given on the command line; None where the recipe decides."""

    data: str | None
    provider: Sequence[str] | None
    threads: int | None
    seed: int | None
    dims: Sequence[Size] | None
    values: Sequence[Value] | None

    def over(self, loaded: LoadedRecipe) -> LoadedRecipe:
        """The recipe with these flags in place of what it says."""
        from dataclasses import replace

        recipe = loaded.recipe
        given = {
            "provider": providers(self.provider) if self.provider else None,
            "threads": self.threads,
            "seed": self.seed,
            "data": self._data(recipe.data) if self.data is not None else None,
            "measure": self._measure(recipe.measure),
        }
        update = {name: value for name, value in given.items() if value is not None}
        return replace(loaded, recipe=recipe.model_copy(update=update))

    def _data(self, section: Data) -> Data:
        return section.model_copy(update={"calibration": from_here(self.data or "")})

    def _measure(self, section: Measure) -> Measure:
        dims, values = dict(self.dims or []), dict(self.values or [])
        return section.model_copy(update={"dims": {**section.dims, **dims}, "values": {**section.values, **values}})


def providers(names: Sequence[str] | None) -> list[Provider]:
    """The providers of --provider; none is the CPU."""
    from compress_ops.runtime import CPU, Provider

    return [Provider(name) for name in names] if names else list(CPU)


def from_here(data: str) -> str:
    """Paths in a recipe are relative to the recipe, those of a flag to the working folder; not all data is a path."""
    from pathlib import Path

    return data if data == "random" or data.startswith("user:") else str(Path(data).absolute())
