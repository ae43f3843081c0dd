"""Words of several scripts, from the names of places and languages in Babel's tables; and files as bytes."""

from __future__ import annotations

import json
import sysconfig
from pathlib import Path

import numpy as np

from benchmarks.models import package_folder


def names(language: str, number: int, least: int = 4) -> list[str]:
    """Names of territories and languages, in a seeded order."""
    from babel import Locale

    locale = Locale(language)
    known = sorted({*locale.territories.values(), *locale.languages.values()})
    fitting = [name.replace("\u200b", "") for name in known if len(name) >= least]
    np.random.default_rng(0).shuffle(fitting)
    return fitting[:number]


def phrases(language: str, number: int, words: int = 6) -> list[str]:
    """Several names behind each other, without spaces: scripts that write none."""
    known, rng = names(language, 10**6), np.random.default_rng(1)
    return ["".join(rng.choice(known, words)).replace(" ", "") for _ in range(number)]


def ids(texts: list[str], numbers: dict[str, int], unknown: str) -> list[np.ndarray]:
    """Each text as int64 [1, length], a number for each character."""
    return [np.array([[numbers.get(char, numbers[unknown]) for char in text]], np.int64) for text in texts]


def table(package: str, path: str) -> dict:  # type: ignore[type-arg]
    """A JSON file of a package."""
    read: dict = json.loads((package_folder(package) / path).read_text())  # type: ignore[type-arg]
    return read


def contents(number: int) -> list[bytes]:
    """Files of different kinds among those that Python and its packages brought."""
    roots = [Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "scripts", "include")]
    by_kind: dict[str, list[Path]] = {}
    for path in sorted(path for root in roots for path in root.rglob("*")):
        if path.is_file() and 256 < path.stat().st_size < 2**22:
            by_kind.setdefault(path.suffix, []).append(path)
    rng = np.random.default_rng(0)
    kinds = [kind for kind, paths in sorted(by_kind.items()) if len(paths) > 2]
    chosen = [by_kind[kinds[i % len(kinds)]] for i in range(number)]
    return [paths[rng.integers(len(paths))].read_bytes() for paths in chosen]
