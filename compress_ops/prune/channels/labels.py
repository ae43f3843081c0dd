"""Labels: which indices of which tensors stand or fall together, as a union-find over integers.

Every index along every weight axis gets a label of its own. Operators join labels; a class of joined labels is a
*unit*: all its indices are cut, or none. Label 0 marks an index that is never cut. A class with one protected
member is protected. Arrays are joined at once (roots hook to smaller roots until none moves), so the work grows
with the number of channels that meet, not with the number of classes.
"""

from __future__ import annotations

import numpy as np

from ...arrays import Array

NEVER = 0


class Labels:
    """A growing set of labels with a union-find over them."""

    def __init__(self) -> None:
        self._parent = np.zeros(1024, np.int64)
        self._never = np.ones(1, bool)
        self._protected: list[tuple[Array, str]] = []
        self.count = 1

    def fresh(self, size: int) -> Array:
        """``size`` new labels, each a class of its own."""
        while self.count + size > len(self._parent):
            self._parent = np.concatenate([self._parent, np.zeros_like(self._parent)])
        new = np.arange(self.count, self.count + size)
        self._parent[new] = new
        self.count += size
        return new

    def roots(self, labels: Array) -> Array:
        """The smallest label of each label's class."""
        found = self._parent[labels]
        while (higher := self._parent[found]).tobytes() != found.tobytes():
            found = higher
        self._parent[labels] = found
        return found

    def join(self, left: Array, right: Array, reason: str) -> None:
        """Make the classes of ``left[i]`` and ``right[i]`` one; what meets an index that is never cut is protected."""
        fixed = (left == NEVER) | (right == NEVER)
        if fixed.any():
            self.protect(np.maximum(left[fixed], right[fixed]), reason)
            left, right = left[~fixed], right[~fixed]
        left, right = self.roots(left), self.roots(right)
        while (apart := left != right).any():
            left, right = left[apart], right[apart]
            self._parent[np.maximum(left, right)] = np.minimum(left, right)
            left, right = self.roots(left), self.roots(right)

    def protect(self, labels: Array, reason: str) -> None:
        """Never cut these; the first reason given for a class is the one that is told."""
        if len(self._never) < self.count:
            self._never = np.pad(self._never, (0, len(self._parent) - len(self._never)))
        labels = labels[~self._never[labels]]
        if labels.size:
            self._never[labels] = True
            self._protected.append((labels, reason))

    def protection(self) -> tuple[Array, list[str]]:
        """For each root 0 where it is free, else 1 + the position of its reason in the list."""
        marks = np.zeros(self.count, np.int64)
        for position in range(len(self._protected), 0, -1):
            marks[self.roots(self._protected[position - 1][0])] = position
        marks[NEVER] = len(self._protected) + 1
        return marks, [*(reason for _, reason in self._protected), "it is fixed"]
