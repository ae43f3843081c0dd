"""Ways to write a weight as a product of smaller ones, in NumPy alone.

W is [inner, outputs], as in X W; a kernel [outputs, channels, *sizes] is that with inner = channels * sizes. What is
lost by W' is |R^T (W' - W)|^2 / |R^T W|^2 (Frobenius). R = I compares weights; with R R^T = X^T X it compares outputs,
since then |R^T D| = |X D| for any D.

A scheme offers levels 1, 2, ...: each one more rank, dearer and closer than the one before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np

from ..arrays import Array


@dataclass(frozen=True)
class Cost:
    """Stored numbers, and multiply-accumulates for one output position."""

    parameters: int
    operations: float

    def below(self, other: Cost) -> bool:
        """Whether this is both smaller and less work."""
        return self.parameters < other.parameters and self.operations < other.operations


class Scheme(Protocol):
    """One way to factorize one weight."""

    name: str

    @property
    def levels(self) -> int: ...

    def ranks(self, level: int) -> tuple[int, ...]: ...

    def cost(self, level: int) -> Cost: ...

    def lost(self, level: int) -> float: ...

    def factors(self, level: int) -> tuple[Array, ...]: ...


@dataclass
class Product:
    """W ~ A B of rank r: the best there is for any R (Eckart and Young 1936; whitened as in SVD-LLM, arXiv:2403.07378).

    With R^T W = U S V^T the minimum of |R^T (W - A B)| is A B = W V_r V_r^T = R^-T U_r U_r^T R^T W. The shorter side is
    taken: V from the eigenvectors of W^T R R^T W [outputs, outputs], or U from R^T W W^T R [inner, inner].
    """

    weight: Array  # [inner, outputs]
    root: Array | None = None
    name: str = "product"

    @property
    def levels(self) -> int:
        return int(min(self.weight.shape))

    def ranks(self, level: int) -> tuple[int, ...]:
        return (level,)

    def cost(self, level: int) -> Cost:
        numbers = level * sum(self.weight.shape)
        return Cost(numbers, numbers)

    def lost(self, level: int) -> float:
        energies = self._spectrum[0]
        return float(energies[level:].sum() / energies.sum())

    def factors(self, level: int) -> tuple[Array, ...]:
        """A [inner, r] and B [r, outputs], each column of A as long as its row of B."""
        basis = self._spectrum[1][:, :level]
        if self._by_outputs:
            first, second = self.weight @ basis, basis.T
        else:
            first = basis if self.root is None else np.linalg.solve(self.root.T, basis)
            second = basis.T @ self._whitened
        lengths = np.linalg.norm(first, axis=0), np.linalg.norm(second, axis=1)
        balance = np.sqrt(np.divide(lengths[1], lengths[0], out=np.ones(level), where=lengths[0] > 0))
        balance[balance == 0] = 1
        return first * balance, second / balance[:, None]

    @property
    def _by_outputs(self) -> bool:
        return bool(self.weight.shape[1] <= self.weight.shape[0])

    @cached_property
    def _whitened(self) -> Array:
        return self.weight if self.root is None else self.root.T @ self.weight

    @cached_property
    def _spectrum(self) -> tuple[Array, Array]:
        return spectrum(self._whitened.T if self._by_outputs else self._whitened)


def spectrum(rows: Array) -> tuple[Array, Array]:
    """Squared singular values of a matrix, largest first, and its left singular vectors as columns."""
    energies, vectors = np.linalg.eigh(rows @ rows.T)
    return np.maximum(energies[::-1], 0), vectors[:, ::-1]


@dataclass(frozen=True)
class Kernel:
    """The kernel of a Conv; ``reading`` holds, for each axis, input positions per output position."""

    weight: Array  # [outputs, channels, *sizes]
    reading: tuple[float, ...]
    root: Array | None = None

    @property
    def matrix(self) -> Array:
        """As [inner, outputs]."""
        return self.weight.reshape(len(self.weight), -1).T

    def lost(self, approximation: Array) -> float:
        """|R^T (W' - W)|^2 / |R^T W|^2."""
        return self._size(approximation.reshape(self.weight.shape) - self.weight) / self._whole

    def _size(self, kernel: Array) -> float:
        rows = kernel.reshape(len(kernel), -1)
        return float(np.square(rows if self.root is None else rows @ self.root).sum())

    @cached_property
    def _whole(self) -> float:
        return self._size(self.weight)


@dataclass
class Narrow:
    """The whole kernel with r outputs, then 1x1 (Zhang et al. 2015, arXiv:1505.06798): a Product of patches."""

    kernel: Kernel
    name: str = "narrow"

    @cached_property
    def _product(self) -> Product:
        return Product(self.kernel.matrix, self.kernel.root)

    @property
    def levels(self) -> int:
        return self._product.levels

    def ranks(self, level: int) -> tuple[int, ...]:
        return (level,)

    def cost(self, level: int) -> Cost:
        return self._product.cost(level)

    def lost(self, level: int) -> float:
        return self._product.lost(level)

    def factors(self, level: int) -> tuple[Array, ...]:
        """Kernels [r, channels, *sizes] and [outputs, r, 1...]."""
        first, second = self._product.factors(level)
        sizes = self.kernel.weight.shape[2:]
        return first.T.reshape(level, -1, *sizes), second.T.reshape(-1, level, *[1] * len(sizes))


@dataclass
class Spatial:
    """A column k_h x 1 with r outputs, then a row 1 x k_w (Jaderberg et al. 2014, arXiv:1405.3866).

    The SVD of the kernel as a matrix of (channel, i) by (output, j).
    """

    kernel: Kernel
    name: str = "spatial"
    _known: dict[int, float] = field(default_factory=dict)

    @cached_property
    def _product(self) -> Product:
        outputs, channels, height, width = self.kernel.weight.shape
        return Product(self.kernel.weight.transpose(1, 2, 0, 3).reshape(channels * height, outputs * width))

    @property
    def levels(self) -> int:
        return self._product.levels

    def ranks(self, level: int) -> tuple[int, ...]:
        return (level,)

    def cost(self, level: int) -> Cost:
        columns, rows = (level * size for size in self._product.weight.shape)
        return Cost(columns + rows, columns * self.kernel.reading[1] + rows)

    def lost(self, level: int) -> float:
        if self.kernel.root is None:
            return self._product.lost(level)
        if level not in self._known:
            self._known[level] = self.kernel.lost(self._whole(level))
        return self._known[level]

    def _whole(self, level: int) -> Array:
        columns, rows = self.factors(level)
        return np.einsum("rci,nrj->ncij", columns[..., 0], rows[:, :, 0], optimize=True)

    def factors(self, level: int) -> tuple[Array, ...]:
        """Kernels [r, channels, k_h, 1] and [outputs, r, 1, k_w]."""
        outputs, channels, height, width = self.kernel.weight.shape
        first, second = self._product.factors(level)
        columns = first.T.reshape(level, channels, height, 1)
        return columns, second.reshape(level, outputs, 1, width).transpose(1, 0, 2, 3)


@dataclass
class Tucker:
    """1x1 to r_1 channels, the core to r_2, 1x1 to the outputs (Tucker-2 by HOSVD, Kim et al. 2016, arXiv:1511.06530).

    The bases are the left singular vectors of the kernel unfolded by channels and by outputs. Ranks are raised one at a
    time, by whichever of both has the larger singular value left.
    """

    kernel: Kernel
    name: str = "tucker"
    _known: dict[int, float] = field(default_factory=dict)

    @property
    def levels(self) -> int:
        return int(sum(self.kernel.weight.shape[:2])) - 1

    def ranks(self, level: int) -> tuple[int, ...]:
        (channels, _), (outputs, _) = self._spectra
        order = np.argsort(-np.concatenate([channels[1:], outputs[1:]]), kind="stable")[: level - 1]
        of_channels = int((order < len(channels) - 1).sum())
        return 1 + of_channels, 1 + len(order) - of_channels

    def cost(self, level: int) -> Cost:
        outputs, channels, *sizes = self.kernel.weight.shape
        before, after = self.ranks(level)
        core = before * after * math.prod(sizes)
        entry, leave = channels * before, after * outputs
        return Cost(entry + core + leave, entry * math.prod(self.kernel.reading) + core + leave)

    def lost(self, level: int) -> float:
        if level not in self._known:
            self._known[level] = self.kernel.lost(self._whole(level))
        return self._known[level]

    def _whole(self, level: int) -> Array:
        entry, core, leave = (factor.reshape((*factor.shape[:2], -1)) for factor in self.factors(level))
        return np.einsum("nb,bas,ac->ncs", leave[..., 0], core, entry[..., 0], optimize=True)

    def factors(self, level: int) -> tuple[Array, ...]:
        """Kernels [r_1, channels, 1...], [r_2, r_1, *sizes] and [outputs, r_2, 1...]."""
        weight, (before, after) = self.kernel.weight, self.ranks(level)
        entry, leave = self._spectra[0][1][:, :before], self._spectra[1][1][:, :after]
        core = np.einsum("nc...,nb,ca->ba...", weight, leave, entry, optimize=True)
        ones = [1] * (weight.ndim - 2)
        return entry.T.reshape(before, -1, *ones), core, leave.reshape(-1, after, *ones)

    @cached_property
    def _spectra(self) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        weight = self.kernel.weight
        by_channel = weight.swapaxes(0, 1).reshape(weight.shape[1], -1)
        return spectrum(by_channel), spectrum(weight.reshape(len(weight), -1))


def schemes_of(kernel: Kernel) -> list[Scheme]:
    """What there is for a kernel of these sizes."""
    sizes = kernel.weight.shape[2:]
    spatial: list[Scheme] = [Spatial(kernel)] if len(sizes) == 2 and min(sizes) > 1 else []
    return [Narrow(kernel), *spatial, *([Tucker(kernel)] if math.prod(sizes) > 1 else [])]
