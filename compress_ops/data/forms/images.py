"""A folder of images; one sub-folder per class (in the order of their names, or numbers) gives the labels.

Where images keep sizes of their own, each is a batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path

import numpy as np

from ...errors import DataError, Place, raise_all
from ...runtime import Port
from ..base import PIXEL_SCALE, Dataset, DataSettings, Images
from ..fit import fits, text, told_once
from ..headers import Header, digest_of
from ..rows import ArrayRows, Rows
from .npy import only_input
from .pixels import ImageRows, Picture, channel_count, import_pillow, look_at, shape_of
from .stacked import Stacked

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
_CLASS = "class folder"  # the name of the labels that folders give
_FAULTS_SHOWN = 20
_EXAMPLE = "in the recipe: data: {images: {resize: [224, 224], layout: NCHW, scale: 0.00392}}"


class ImageFolder(Stacked):
    """Images are decoded a batch at a time, once each before: a damaged one must not end a run that is half done."""

    def __init__(
        self,
        name: str,
        path: Path,
        pictures: Sequence[Picture],
        port: Port,
        ports: Sequence[Port],
        settings: DataSettings,
    ) -> None:
        self._pictures, self._port, self._images = pictures, port, settings.images or Images()
        shapes = self._shapes()
        headers = {port.name: Header(np.dtype(port.dtype), (len(pictures), *shapes[0]))}
        if pictures[0].label >= 0:
            settings = replace(settings, labels=_CLASS)
            headers[_CLASS] = Header(np.dtype("int64"), (len(pictures),))
            self.classes = [folder.name for folder in class_folders(path)]
        ragged = len(set(shapes)) > 1
        super().__init__(name, path, headers, ports, replace(settings, batch_size=1) if ragged else settings)
        if ragged and self._layout.batch > 1:
            message = f"the model takes {self._layout.batch} images at a time, and their sizes differ"
            raise DataError(message, hint="add resize: [height, width]", place=self.place)

    @contextmanager
    def open_rows(self) -> Iterator[Mapping[str, Rows]]:
        labels = np.array([picture.label for picture in self._pictures])
        yield {self._port.name: ImageRows(self._pictures, self._images, self._port.dtype), _CLASS: ArrayRows(labels)}

    def digest(self) -> str:
        return digest_of((picture.file.relative_to(self.path).as_posix(), picture.file) for picture in self._pictures)

    def _shapes(self) -> list[tuple[int, ...]]:
        """The array shape of every image; those that cannot be decoded, or have a size that does not fit, are told."""
        shapes: list[tuple[int, ...]] = []
        raise_all(islice(told_once(self._faults(shapes)), _FAULTS_SHOWN))
        return shapes

    def _faults(self, shapes: list[tuple[int, ...]]) -> Iterator[DataError]:
        wanted = self._port.shape[-3:] or (None,) * 3
        for picture in self._pictures:
            try:
                size = look_at(picture)
            except DataError as fault:
                yield fault
                continue
            shapes.append(shape_of(self._images, self._images.resize or size))
            if self._images.resize is None and not fits(shapes[-1], wanted):
                message = f"the image is {text(shapes[-1])}; the model wants {text(wanted)}"
                yield DataError(message, hint=_EXAMPLE, place=picture.place)


def holds_images(path: Path) -> bool:
    return path.is_dir() and any(map(_is_image, chain(path.iterdir(), path.glob("[!.]*/*"))))


def open_images(source: str, ports: Sequence[Port], settings: DataSettings) -> Dataset:
    path, place = settings.base / source, Place(source)
    import_pillow(place)
    port = only_input(place, ports, replace(settings, labels=None))
    pictures = _find(path, place)
    raise_all(_settings_faults(place, settings, port, pictures))
    return ImageFolder(source, path, pictures, port, ports, settings)


def class_folders(path: Path) -> list[Path]:
    """The folders of the classes, by name, or by number where all names are numbers: 0, 90, 180, 270."""
    found = [folder for folder in path.iterdir() if folder.is_dir() and not folder.name.startswith(".")]
    by_number = all(folder.name.isdecimal() for folder in found)
    return sorted(found, key=lambda folder: (int(folder.name) if by_number else 0, folder.name))


def _find(path: Path, place: Place) -> list[Picture]:
    """All images: either right in the folder, or in one sub-folder per class."""
    classes = class_folders(path)
    loose = [Picture(file, _place(place, path, file)) for file in sorted(filter(_is_image, path.iterdir()))]
    classed = [
        Picture(file, _place(place, path, file), number)
        for number, folder in enumerate(classes)
        for file in sorted(filter(_is_image, folder.iterdir()))
    ]
    if loose and classed:
        message = f"{len(loose)} images lie beside the class folder '{classes[classed[0].label].name}'"
        raise DataError(message, hint="put each image into the folder of its class, or all into one", place=place)
    if not loose and not classed:
        raise DataError("the folder holds no images", place=place)
    return loose or classed


def _settings_faults(
    place: Place, settings: DataSettings, port: Port, pictures: Sequence[Picture]
) -> Iterator[DataError]:
    if settings.required_labels is not None and pictures[0].label < 0:
        hint = "put each image into a sub-folder named by its class"
        yield DataError("the images have no labels", hint=hint, place=place)
    if settings.images is None:
        yield DataError("how the images become inputs is not stated", hint=_EXAMPLE, place=place)
        return
    images, channels = settings.images, channel_count(settings.images)
    if any(len(numbers) not in (1, channels) for numbers in (images.mean, images.std)):
        message = f"images: mean and std must hold 1 or {channels} numbers each"
        yield DataError(message, place=place)
    if port.dtype not in ("uint8", "float16", "float32", "float64"):
        yield DataError(f"input '{port.name}' is {port.dtype}; images give floats or uint8", place=place)
    elif port.dtype == "uint8" and (images.scale not in (1, PIXEL_SCALE) or any(images.mean) or set(images.std) != {1}):
        yield DataError(f"input '{port.name}' takes uint8 pixels as they are: no scale, mean or std", place=place)


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def _place(place: Place, folder: Path, file: Path) -> Place:
    return Place(str(Path(place.file) / file.relative_to(folder)))
