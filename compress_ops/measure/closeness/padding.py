"""Padding in a batch of sequences: what a model gives there means nothing, and should not count as error.

The inputs themselves tell: a mask is an integer or bool input of zeros and ones with at least two axes, with both in
it, on whose zeros every other integer input of its shape (such as token ids) has one and the same value.
"""

from __future__ import annotations

from ...arrays import Array
from ...runtime import Feeds


def kept_positions(feeds: Feeds) -> Array | None:
    """True where a position is no padding, in the shape of the mask; None where no input is a mask, or several are."""
    discrete = {name: array for name, array in feeds.items() if array.dtype.kind in "iub" and array.ndim >= 2}
    masks = [name for name in discrete if _is_mask(name, discrete)]
    return discrete[masks[0]].astype(bool) if len(masks) == 1 else None


def _is_mask(name: str, discrete: Feeds) -> bool:
    mask = discrete[name]
    if mask.size == 0 or mask.min() != 0 or mask.max() != 1:
        return False
    hidden = mask == 0
    others = [array for other, array in discrete.items() if other != name and array.shape == mask.shape]
    return bool(others) and all((array[hidden] == array[hidden][0]).all() for array in others)
