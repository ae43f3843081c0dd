"""How many labels an analysis may hold and look at, so that a small file cannot ask for much memory or time.

Channels are made by weights, so an axis that is longer than all weights together is no axis of channels: it stays a
plain size. Small models get some room, since they may flatten images; of very large ones 2^22 is enough.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import PassError
from ...model import Model
from .axes import Unclear

_LONGEST = 2**20, 2**22  # labels along one axis, of the smallest and of the largest model
_MADE = 2**22  # labels of all weights; a large model has more, a small share of its numbers
_LOOKED_AT = 2**25  # labels that all nodes read
_SHARE = 16


@dataclass
class Limits:
    """What is left to make and to look at, and how long an axis of channels may be."""

    longest: int
    to_make: int
    to_look_at: int

    @classmethod
    def of(cls, model: Model) -> Limits:
        stored = sum(weight.const_value.size for weight in model.weights() if weight.const_value is not None)
        least, most = _LONGEST
        return cls(max(least, min(stored, most)), _MADE + stored // _SHARE, _LOOKED_AT + stored // _SHARE)

    def allow(self, size: int) -> bool:
        """Whether an axis may be one of channels."""
        return size <= self.longest

    def expect(self, size: int) -> None:
        """Raise Unclear where an operator would make too long an axis of channels."""
        if not self.allow(size):
            raise Unclear(f"it makes an axis of {size} out of channels, longer than all weights together")

    def make(self, labels: int) -> None:
        self.to_make -= labels
        self._check()

    def look(self, labels: int) -> None:
        self.to_look_at -= labels
        self._check()

    def _check(self) -> None:
        if min(self.to_make, self.to_look_at) < 0:
            raise PassError("the graph has more channels than a model of its size", hint="leave out this step")
