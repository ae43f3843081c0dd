"""Searches that are over in seconds: models are timed for a moment only."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, quick_trials: None) -> None:
    """What is compared is timed for a moment, bases as well as trials; times of layers are kept for the test alone."""
    bases = import_module("compress_ops.search.auto.bases")
    compare = bases.compare_models

    def briefly(*given: Any, settings: Any, **more: Any) -> Any:
        return compare(*given, settings=settings.but(seconds=0.02), **more)

    monkeypatch.setattr(bases, "compare_models", briefly)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
