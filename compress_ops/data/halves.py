"""Halves of data: what is fitted on one can be judged on the other."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from .base import Batch, Dataset, at_most


class Part(Dataset):
    """Every second batch of other data, beginning with batch ``first`` (0 or 1)."""

    def __init__(self, whole: Dataset, first: int) -> None:
        self.whole, self.first = whole, first
        self.name, self.synthetic = whole.name, whole.synthetic

    @classmethod
    def halves(cls, whole: Dataset) -> tuple[Part, Part]:
        """Two parts that share no batch; the second is empty where there is one batch only."""
        return cls(whole, 0), cls(whole, 1)

    def __len__(self) -> int:
        return sum(batch.size for batch in self.batches())

    def batches(self, limit: int | None = None) -> Iterator[Batch]:
        return islice(islice(self.whole.batches(), self.first, None, 2), limit)

    def batch_count(self, limit: int | None = None) -> int | None:
        whole = self.whole.batch_count()
        return None if whole is None else at_most((whole - self.first + 1) // 2, limit)

    def digest(self) -> str:
        return f"{self.whole.digest()}:{self.first}"
