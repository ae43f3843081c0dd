"""A session that many comparisons are made with: what it gave for a feed is kept, and not computed again."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np

from ..runtime import Arrays, Feeds, Session

MOST_KEPT = 2**28  # bytes of outputs; what is beyond is computed each time


class Remembering(Session):
    """The session of a model, with the outputs of the feeds that it has seen; they are read-only."""

    def __init__(self, session: Session) -> None:
        super().__init__(session.raw, session.source)
        self._given: dict[bytes, Arrays] = {}
        self._bytes = 0

    def run(self, feeds: Feeds, outputs: Sequence[str] | None = None) -> Arrays:
        """As any session, from memory where all outputs of the same feed have been asked for before."""
        if outputs is not None or any(array.dtype.hasobject for array in feeds.values()):
            return super().run(feeds, outputs)
        key = _key(feeds)
        if key not in self._given:
            found = super().run(feeds)
            if not self._fits(found):
                return found
            self._given[key] = found
        return dict(self._given[key])

    def _fits(self, found: Arrays) -> bool:
        """Whether outputs are to be kept: tensors alone are, as long as there is room."""
        if not all(isinstance(array, np.ndarray) and not array.dtype.hasobject for array in found.values()):
            return False
        size = sum(array.nbytes for array in found.values())
        if self._bytes + size > MOST_KEPT:
            return False
        self._bytes += size
        for array in found.values():
            array.flags.writeable = False
        return True


def _key(feeds: Feeds) -> bytes:
    digest = blake2b(digest_size=16)
    for name in sorted(feeds):
        array = np.ascontiguousarray(feeds[name])
        digest.update(f"{name}:{array.dtype}:{array.shape};".encode())
        digest.update(array.data if array.size else b"")
    return digest.digest()
