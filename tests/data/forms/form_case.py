"""What is wrong with data, however it is stored."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from compress_ops.data import Dataset
from compress_ops.errors import DataError, Faults


def fault_of(opened: Callable[..., Dataset], *args: object, **settings: object) -> str:
    """What is told of data that cannot be opened, or not be gone through."""
    with pytest.raises((DataError, Faults)) as caught:
        list(opened(*args, **settings).batches())
    return str(caught.value)
