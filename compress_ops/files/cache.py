"""The user's cache folder: what can be made again, and takes time to make."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Where the user's programs keep such things (XDG Base Directory Specification)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "onnxpress"
