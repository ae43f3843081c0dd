"""From an image file to an array: ``(pixel * scale - mean) / std``, one number a channel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ...arrays import Array
from ...errors import DataError, Place
from ..base import Images
from ..headers import reading

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_ORIENTATION, _ON_THE_SIDE = 0x0112, (5, 6, 7, 8)  # EXIF: tag, and the values that change width and height


@dataclass(frozen=True)
class Picture:
    """An image file, its place for messages, and the number of its class (-1: none)."""

    file: Path
    place: Place
    label: int = -1


class ImageRows:
    """The next images as one array."""

    def __init__(self, pictures: Sequence[Picture], images: Images, dtype: str) -> None:
        self._pictures, self._images, self._dtype = iter(pictures), images, dtype

    def take(self, count: int) -> Array:
        return np.stack([self._array(picture) for picture in islice(self._pictures, count)])

    def _array(self, picture: Picture) -> Array:
        """Channels last until the end: that is where mean and std, and the reversal to bgr, apply."""
        images = self._images
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


def _pixels(picture: Picture, images: Images) -> Array:
    """The image as uint8 [height, width, channels]."""
    with opened(picture) as image:
        image = _upright(image).convert("L" if images.channels == "grey" else "RGB")
        if images.resize is not None:
            image = image.resize(tuple(reversed(images.resize)), import_pillow(picture.place).Resampling.BILINEAR)
        return np.array(image).reshape(image.height, image.width, channel_count(images))


@contextmanager
def opened(picture: Picture) -> Iterator[Any]:
    """The image by Pillow, in a format of the endings: others (PostScript) run programs to be read.

    By an open file: of a TIFF that it maps by name, and that lies on its side, Pillow makes a jumble.
    """
    pillow = import_pillow(picture.place)
    with (
        reading(picture.place, "the image"),
        picture.file.open("rb") as file,
        pillow.open(file, formats=FORMATS) as image,
    ):
        yield image


def _upright(image: Any) -> Any:
    """Turned as the camera says that it was held."""
    from PIL import ImageOps

    return ImageOps.exif_transpose(image)


def look_at(picture: Picture) -> tuple[int, int]:
    """Height and width of an image that is whole and fits into 8 bits and no alpha; else DataError."""
    with opened(picture) as image:
        if _is_deep(image):  # Pillow would clip 16-bit pixels to 255, or drop half of them, without a word
            message = "the image has pixels of more than 8 bits"
            raise DataError(message, hint="convert it to 8 bits", place=picture.place)
        size = _size_when_loaded(image)
        if _is_transparent(image):
            message = "the image has transparent pixels, and what should be seen through them is not known"
            raise DataError(message, hint="lay it on a background first", place=picture.place)
        return size


def _is_deep(image: Any) -> bool:
    """By what Pillow holds, or by how it will be decoded: 16-bit colours become 8-bit ones by then."""
    told = [part for tile in image.tile for part in (tile[3] if isinstance(tile[3], tuple) else (tile[3],))]
    return (
        image.mode[0] in "IF"
        or any(";16" in part if isinstance(part, str) else False for part in told)
        or (image.format == "PPM" and any(isinstance(part, int) and part > 255 for part in told))
    )


def _size_when_loaded(image: Any) -> tuple[int, int]:
    """Height and width as they will be seen. A JPEG is decoded small: what is damaged shows all the same."""
    size, is_small = image.size, image.draft(image.mode, (1, 1)) is not None
    image.load()
    width, height = size if is_small else image.size  # a TIFF is turned when it is loaded
    return (width, height) if image.getexif().get(_ORIENTATION) in _ON_THE_SIDE else (height, width)


def _is_transparent(image: Any) -> bool:
    """Whether any pixel is: an alpha channel that is opaque throughout says nothing."""
    if "transparency" not in image.info and image.mode not in ("RGBA", "LA", "PA", "RGBa", "La"):
        return False
    return bool(image.convert("RGBA").getchannel("A").getextrema()[0] < 255)


def shape_of(images: Images, size: tuple[int, int]) -> tuple[int, ...]:
    return (channel_count(images), *size) if images.layout == "NCHW" else (*size, channel_count(images))


def channel_count(images: Images) -> int:
    return 1 if images.channels == "grey" else 3
