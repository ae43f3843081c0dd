"""What every form of data is: a Dataset, its Batches, and the settings that it is opened with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt, field_validator

from ..arrays import Array
from ..progress import Progress
from ..runtime import Arrays, Feeds
from ..settings import Settings


@dataclass(frozen=True)
class Batch:
    """One call's inputs by name, the labels of its samples (axis 0) where there are any, and how many samples."""

    feeds: Arrays
    labels: Array | None
    size: int


PIXEL_SCALE = 1 / 255


class Images(Settings):
    """How an image file becomes an input tensor: (pixel * scale - mean) / std."""

    # An input of type uint8 takes the pixels, 0 to 255, as they are. Resizing is bilinear and does not keep the aspect
    # ratio. mean and std hold one number a channel, or one for all, in the order of channels.

    resize: tuple[PositiveInt, PositiveInt] | None = Field(
        None, description="[height, width]; absent: the image's own size."
    )
    layout: Literal["NCHW", "NHWC"] = Field("NCHW", description="Axis order of the input.")
    channels: Literal["rgb", "bgr", "grey"] = Field("rgb", description="Channel order of the input.")
    scale: float = Field(PIXEL_SCALE, description="Factor on the pixel values 0..255.")
    mean: list[float] = Field([0.0], description="Per channel, after scaling.")
    std: list[Annotated[float, Field(gt=0)]] = Field([1.0], description="Per channel, after scaling.")

    @field_validator("resize", mode="before")
    @classmethod
    def _pair(cls, value: Any) -> Any:
        if value is not None and not (isinstance(value, list | tuple) and len(value) == 2):
            raise ValueError("should be [height, width]")
        return tuple(value) if value is not None else None


@dataclass(frozen=True)
class DataSettings:
    """How data is opened: the recipe's ``data`` and ``measure`` sections, as far as they concern data.

    ``labels`` names the array that is no input; it may be absent unless ``needs_labels`` (calibration data often
    holds labels that nobody asks for). ``dims`` (by symbolic name) and ``shapes`` (whole, by input)
    size random data; ``values`` fills random inputs and supplies single-number inputs that the data lacks. ``base`` is
    the folder that relative paths refer to. ``samples`` is how many random samples there are; ``runs`` tries a random
    feed (such as ``Session.run``), without it the first guess at free dimensions is taken.
    """

    batch_size: int = 16
    labels: str | None = None
    needs_labels: bool = True
    images: Images | None = None
    seed: int = 0
    dims: Mapping[str, int] = field(default_factory=dict)
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    values: Mapping[str, float] = field(default_factory=dict)
    allow_code: bool = False
    base: Path = Path()
    samples: int = 32
    runs: Callable[[Feeds], object] | None = None

    @property
    def required_labels(self) -> str | None:
        return self.labels if self.needs_labels else None


def at_most(count: int, limit: int | None) -> int:
    """How many of ``count`` batches go by under a limit."""
    return count if limit is None else min(count, limit)


class Dataset(ABC):
    """Samples that can be gone through any number of times. Arrays may be read-only: copy before writing.

    ``name`` is what reports call it; ``dropped`` counts samples left out because the model fixes its batch and they
    do not fill the last one. ``classes`` are the names of its labels 0, 1, ..., where it knows them.
    """

    name: str
    synthetic: bool = False
    dropped: int = 0
    classes: Sequence[str] = ()

    @abstractmethod
    def __len__(self) -> int:
        """How many samples ``batches()`` yields in all."""

    @abstractmethod
    def batches(self, limit: int | None = None) -> Iterator[Batch]:
        """A fresh pass over the samples, in the same order each time, of at most ``limit`` batches."""

    def batch_count(self, limit: int | None = None) -> int | None:
        """How many batches ``batches(limit)`` yields, where that is known before."""
        return None

    def watched(self, progress: Progress, label: str, limit: int | None = None) -> Iterable[Batch]:
        """``batches(limit)``, shown going by."""
        return progress(self.batches(limit), label, self.batch_count(limit))

    @abstractmethod
    def digest(self) -> str:
        """SHA-256 of what the samples are made from."""
