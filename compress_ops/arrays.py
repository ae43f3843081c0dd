"""The one name for NumPy arrays; shapes, dtypes and units are in the docstrings."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[Any, Any]
