"""The user's cache folder: what can be made again, and takes time to make."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path | None:
    """Where the user's programs keep such things (XDG Base Directory Specification); None for who has no home."""
    told = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if told.is_absolute():
        return told / "onnxpress"
    try:
        return Path.home() / ".cache" / "onnxpress"
    except RuntimeError:
        return None
