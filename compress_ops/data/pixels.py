"""From an image file to an array: ``(pixel * scale - mean) / std``, one number a channel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError, Place
from .base import ImageSettings
from .headers import reading

if TYPE_CHECKING:
    from .base import Array


@dataclass(frozen=True)
class Picture:
    """An image file, its place for messages, and the number of its class (-1: none)."""

    file: Path
    place: Place
    label: int = -1


class ImageRows:
    """The next images as one array."""

    def __init__(self, pictures: Sequence[Picture], images: ImageSettings, dtype: str) -> None:
        self._pictures, self._images, self._dtype = iter(pictures), images, dtype

    def take(self, count: int) -> Array:
        import numpy as np

        return np.stack([self._array(picture) for picture in islice(self._pictures, count)])

    def _array(self, picture: Picture) -> Array:
        """Channels last until the end: that is where mean and std, and the reversal to bgr, apply."""
        import numpy as np

        images = self._images
        with reading(picture.place, "the image"):
            pixels = _pixels(picture, images)
        pixels = pixels[..., ::-1] if images.channels == "bgr" else pixels
        if self._dtype != "uint8":
            mean, std = np.asarray(images.mean, np.float32), np.asarray(images.std, np.float32)
            pixels = ((pixels.astype(np.float32) * images.scale - mean) / std).astype(self._dtype)
        return pixels.transpose(2, 0, 1) if images.layout == "NCHW" else pixels


def import_pillow(place: Place) -> Any:
    try:
        import PIL.Image
    except ImportError as error:
        raise DataError("images need Pillow", hint='pip install "onnxpress[images]"', place=place) from error
    return PIL.Image


def _pixels(picture: Picture, images: ImageSettings) -> Array:
    """The image as uint8 [height, width, channels]."""
    import numpy as np

    pillow = import_pillow(picture.place)
    with pillow.open(picture.file) as image:
        if image.mode[0] in "IF":  # Pillow would clip 16-bit pixels to 255 without a word
            message = "the image has pixels of more than 8 bits"
            raise DataError(message, hint="convert it to 8 bits", place=picture.place)
        image = image.convert("L" if images.channels == "grey" else "RGB")
        if images.resize is not None:
            image = image.resize(tuple(reversed(images.resize)), pillow.Resampling.BILINEAR)
        return np.array(image).reshape(image.height, image.width, channel_count(images))


def size_of(picture: Picture) -> tuple[int, int]:
    """Height and width, from the file's header."""
    with reading(picture.place, "the image"), import_pillow(picture.place).open(picture.file) as image:
        return image.height, image.width


def shape_of(images: ImageSettings, size: tuple[int, int]) -> tuple[int, ...]:
    return (channel_count(images), *size) if images.layout == "NCHW" else (*size, channel_count(images))


def channel_count(images: ImageSettings) -> int:
    return 1 if images.channels == "grey" else 3
