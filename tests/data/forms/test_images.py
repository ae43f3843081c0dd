"""Folders of images."""

from __future__ import annotations

import struct
import sys
import zlib
from functools import partial

import numpy as np
import pytest
from PIL import Image

from compress_ops.data import DataSettings, Images, open_data
from compress_ops.errors import DataError, Faults
from compress_ops.runtime import Port

from .form_case import fault_of

NCHW = Port("x", "float32", (None, 3, 8, 8))
FREE = Port("x", "float32", (None, 3, None, None))
PIXELS = Images(resize=(8, 8), scale=1.0)


def paint(file, colour=(10, 20, 30), size=(8, 8)):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (size[1], size[0]), colour).save(file)


def opened(folder, port=NCHW, images=PIXELS, **settings):
    return open_data("set", [port], DataSettings(batch_size=4, images=images, base=folder, **settings))


fault = partial(fault_of, opened)


def test_class_folders_give_labels_in_the_order_of_their_names(tmp_path):
    for folder, count in (("cat", 2), ("ant", 3), ("bee", 0)):
        (tmp_path / "set" / folder).mkdir(parents=True)
        for number in range(count):
            paint(tmp_path / "set" / folder / f"{number}.png", (number, 0, 0))
    (tmp_path / "set" / "ant" / "notes.txt").write_text("no image")
    batches = list(opened(tmp_path).batches())
    assert [batch.labels.tolist() for batch in batches] == [[0, 0, 0, 2], [2]]
    assert np.concatenate([batch.feeds["x"][:, 0, 0, 0] for batch in batches]).tolist() == [0, 1, 2, 0, 1]


def test_class_folders_that_are_numbers_are_in_the_order_of_numbers(tmp_path):
    for number, folder in enumerate(("0", "90", "180", "270")):
        paint(tmp_path / "set" / folder / "a.png", (number, 0, 0))
    data = opened(tmp_path)
    assert data.classes == ["0", "90", "180", "270"]
    (batch,) = data.batches()
    assert batch.labels.tolist() == batch.feeds["x"][:, 0, 0, 0].tolist() == [0, 1, 2, 3]


def test_one_name_that_is_no_number_makes_names_of_all(tmp_path):
    for folder in ("9", "10", "none"):
        paint(tmp_path / "set" / folder / "a.png")
    assert opened(tmp_path).classes == ["10", "9", "none"]


def test_a_flat_folder_has_no_labels(tmp_path):
    for number in range(5):
        paint(tmp_path / "set" / f"{number}.png")
    data = opened(tmp_path)
    assert [(batch.size, batch.labels) for batch in data.batches()] == [(4, None), (1, None)]
    assert len(data) == 5


def test_the_digest_sees_names_and_contents(tmp_path):
    paint(tmp_path / "set" / "a.png")
    first = opened(tmp_path).digest()
    assert first == opened(tmp_path).digest()
    paint(tmp_path / "set" / "a.png", (0, 0, 0))
    second = opened(tmp_path).digest()
    (tmp_path / "set" / "a.png").rename(tmp_path / "set" / "b.png")
    assert len({first, second, opened(tmp_path).digest()}) == 3


@pytest.mark.parametrize(
    ("images", "port", "expected"),
    [
        (PIXELS, NCHW, [10, 20, 30]),
        (Images(resize=(8, 8)), NCHW, [10 / 255, 20 / 255, 30 / 255]),
        (Images(resize=(8, 8), scale=1.0, channels="bgr"), NCHW, [30, 20, 10]),
        (Images(resize=(8, 8), scale=0.1, mean=[1, 1, 1], std=[1, 2, 4]), NCHW, [0, 0.5, 0.5]),
        (Images(resize=(8, 8), scale=1.0, mean=[10], std=[10]), NCHW, [0, 1, 2]),
        (Images(resize=(8, 8), layout="NHWC", scale=1.0), Port("x", "float32", (None, 8, 8, 3)), [10, 20, 30]),
        (PIXELS, Port("x", "float16", (1, 3, 8, 8)), [10, 20, 30]),
        (Images(resize=(8, 8)), Port("x", "uint8", (None, 3, 8, 8)), [10, 20, 30]),
        # ITU-R 601 luma: 0.299 * 10 + 0.587 * 20 + 0.114 * 30 = 18.15
        (Images(resize=(8, 8), scale=1.0, channels="grey"), Port("x", "float32", (None, 1, 8, 8)), [18]),
    ],
)
def test_from_pixel_to_input(tmp_path, images, port, expected):
    paint(tmp_path / "set" / "a.png")
    array = next(opened(tmp_path, port, images).batches()).feeds["x"]
    assert array.dtype == port.dtype
    assert array.shape == (1, *port.shape[1:])
    # three float32 roundings of numbers near 1
    assert np.allclose(np.moveaxis(array, 1 if images.layout == "NCHW" else 3, -1), expected, rtol=4e-7, atol=4e-7)


def test_resize_is_height_then_width(tmp_path):
    paint(tmp_path / "set" / "a.png", size=(30, 20))
    assert next(opened(tmp_path, FREE, Images(resize=(16, 12))).batches()).feeds["x"].shape == (1, 3, 16, 12)


def test_without_resize_each_image_is_a_batch_of_its_own_size(tmp_path):
    for number, size in enumerate([(4, 6), (9, 5), (4, 6)]):
        paint(tmp_path / "set" / f"{number}.png", size=size)
    batches = list(opened(tmp_path, FREE, Images()).batches())
    assert [batch.feeds["x"].shape for batch in batches] == [(1, 3, 4, 6), (1, 3, 9, 5), (1, 3, 4, 6)]


def test_images_of_one_size_need_no_resize(tmp_path):
    for number in range(3):
        paint(tmp_path / "set" / f"{number}.png")
    assert [batch.size for batch in opened(tmp_path, FREE, Images()).batches()] == [3]


def test_a_model_without_batch_axis(tmp_path):
    paint(tmp_path / "set" / "a.png")
    assert next(opened(tmp_path, Port("x", "float32", (3, "h", "w"))).batches()).feeds["x"].shape == (3, 8, 8)


@pytest.mark.parametrize(
    ("port", "images", "word"),
    [
        (NCHW, None, "not stated"),
        (NCHW, Images(resize=(9, 8)), "[samples, 3, 8, 8]"),
        (
            Port("x", "float32", (None, 3, 9, 9)),
            Images(),
            "0.png: the image is [3, 8, 8]; the model wants [3, 9, 9]",
        ),
        (NCHW, Images(resize=(8, 8), layout="NHWC"), "[1, 8, 8, 3]"),
        (NCHW, Images(resize=(8, 8), mean=[1, 2]), "1 or 3 numbers"),
        (Port("x", "int64", (None, 3, 8, 8)), PIXELS, "is int64"),
        (Port("x", "uint8", (None, 3, 8, 8)), Images(resize=(8, 8), mean=[0.5]), "uint8 pixels as they are"),
        (Port("x", "float32", (2, 3, 8, 8)), PIXELS, "2 samples at a time"),
    ],
)
def test_faults_at_open(tmp_path, port, images, word):
    paint(tmp_path / "set" / "0.png")
    assert word in fault(tmp_path, port, images)


def test_labels_need_class_folders(tmp_path):
    paint(tmp_path / "set" / "0.png")
    assert "no labels" in fault(tmp_path, labels="label")
    paint(tmp_path / "set" / "ant" / "0.png")
    assert "beside the class folder 'ant'" in fault(tmp_path)


def test_the_same_fault_of_many_images_is_told_once(tmp_path):
    for number in range(30):
        paint(tmp_path / "set" / f"{number:02}.png", size=(4, 5 + (number > 0)))
    with pytest.raises(Faults) as caught:
        opened(tmp_path, images=Images())
    first, second = (fault.message for fault in caught.value.faults)
    assert first == "the image is [3, 4, 5]; the model wants [3, 8, 8]"
    assert second == "the image is [3, 4, 6]; the model wants [3, 8, 8] (and in 28 more files)"


def test_a_fixed_batch_of_images_that_differ_in_size(tmp_path):
    paint(tmp_path / "set" / "0.png", size=(4, 4))
    paint(tmp_path / "set" / "1.png", size=(5, 5))
    port = Port("x", "float32", (2, 3, None, None))
    assert "2 images at a time, and their sizes differ" in fault(tmp_path, port, Images())


@pytest.mark.parametrize("images", [PIXELS, Images()])
def test_damaged_and_deep_images(tmp_path, images):
    paint(tmp_path / "set" / "0.png")
    content = (tmp_path / "set" / "0.png").read_bytes()
    for cut in (0, 20, 50):
        (tmp_path / "set" / "0.png").write_bytes(content[:cut])
        assert "set/0.png: the image cannot be read" in fault(tmp_path, images=images)
    Image.fromarray(np.full((8, 8), 40000, np.uint16)).save(tmp_path / "set" / "0.png")
    assert "more than 8 bits" in fault(tmp_path, images=images)


def test_only_hidden_folders(tmp_path):
    paint(tmp_path / "set" / ".cache" / "0.png")
    assert "no images" in fault(tmp_path)


def test_without_pillow_the_error_says_what_to_install(tmp_path, monkeypatch):
    paint(tmp_path / "set" / "0.png")
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    assert 'pip install "onnxpress[images]"' in fault(tmp_path)


# What an image may be


def png_16_bit(file, colours):
    """A PNG with 16 bits a channel, which Pillow reads but does not write in colour."""
    kind, count = {1: (0, 1), 3: (2, 3), 4: (6, 4)}[colours]
    rows = b"".join(b"\0" + b"\x12\x34" * 8 * count for _ in range(8))
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", 8, 8, 16, kind, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    )


@pytest.mark.parametrize("colours", [1, 3, 4])
def test_16_bits_are_told(tmp_path, colours):
    png_16_bit(tmp_path / "set" / "a.png", colours)
    assert "more than 8 bits" in fault(tmp_path)


@pytest.mark.parametrize("header", [b"P6 8 8 65535\n", b"P5 8 8 65535\n", b"P6 8 8 300\n"])
def test_16_bits_of_netpbm(tmp_path, header):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.ppm").write_bytes(header + b"\1\2" * 192)
    assert "more than 8 bits" in fault(tmp_path)


def test_8_bits_of_netpbm(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.ppm").write_bytes(b"P6 8 8 255\n" + bytes([10, 20, 30]) * 64)
    assert next(opened(tmp_path).batches()).feeds["x"][0, :, 0, 0].tolist() == [10, 20, 30]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_alpha_that_shows_is_told_and_one_that_does_not_is_none(tmp_path, mode):
    image = Image.new("RGBA", (8, 8), (10, 10, 10, 255)).convert(mode)
    ending = "tif" if mode == "PA" else "png"
    (tmp_path / "set").mkdir()
    if mode == "PA":
        image = Image.new("P", (8, 8))
        image.putpalette([10, 10, 10] * 256)
        image.save(tmp_path / "set" / "a.png")
    else:
        image.save(tmp_path / "set" / f"a.{ending}")
    assert next(opened(tmp_path).batches()).feeds["x"][0, :, 0, 0].tolist() == [10, 10, 10]
    if mode == "PA":
        image.save(tmp_path / "set" / "a.png", transparency=0)
    else:
        image.putpixel((3, 3), (10,) * (len(mode) - 1 if mode == "LA" else 3) + (254,))
        image.save(tmp_path / "set" / "a.png")
    assert "transparent pixels" in fault(tmp_path)


ARROW = np.arange(6 * 4, dtype=np.uint8).reshape(6, 4) * 10
AS_SEEN = {  # the EXIF specification: where row 0 and column 0 of what is stored are seen
    1: ARROW,
    2: ARROW[:, ::-1],
    3: ARROW[::-1, ::-1],
    4: ARROW[::-1],
    5: ARROW.T,
    6: np.rot90(ARROW, -1),
    7: ARROW[::-1, ::-1].T,
    8: np.rot90(ARROW, 1),
}


@pytest.mark.parametrize("orientation", AS_SEEN)
@pytest.mark.parametrize("ending", ["png", "tif", "webp", "jpg"])
def test_images_are_turned_as_the_camera_says(tmp_path, orientation, ending):
    (tmp_path / "set").mkdir()
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(ARROW).save(tmp_path / "set" / f"a.{ending}", exif=exif, quality=100, lossless=True)
    settings = Images(scale=1.0, channels="grey")
    array = next(opened(tmp_path, Port("x", "float32", (None, 1, None, None)), settings).batches()).feeds["x"]
    lossy = {"jpg": 2, "webp": 1}  # the quantization of DCT coefficients at quality 100; grey as luma and back
    np.testing.assert_allclose(array[0, 0], AS_SEEN[orientation], atol=lossy.get(ending, 0))


@pytest.mark.parametrize(
    "content", [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EOF\n", b"#define im_width 8\n"]
)
def test_formats_of_other_endings_are_not_decoded(tmp_path, content, monkeypatch):
    """PostScript would start Ghostscript."""
    from PIL import EpsImagePlugin

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_, **__: pytest.fail("a program was started"))
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.png").write_bytes(content)
    assert "set/a.png: the image cannot be read: cannot identify image file" in fault(tmp_path)


def test_hidden_files_are_no_images(tmp_path):
    paint(tmp_path / "set" / "a.png")
    (tmp_path / "set" / "._a.png").write_bytes(b"what a Mac leaves")
    assert len(opened(tmp_path)) == 1


@pytest.mark.parametrize("images", [PIXELS, Images()], ids=["resized", "as they are"])
@pytest.mark.parametrize("ending", ["png", "jpg", "gif", "bmp", "tif"])
def test_all_images_are_decoded_before_the_first_batch(tmp_path, images, ending):
    for number in range(30):
        file = tmp_path / "set" / f"{number:02}.{ending}"
        paint(file)
        if number >= 25:
            file.write_bytes(file.read_bytes()[:-60])
    with pytest.raises((DataError, Faults)) as caught:
        opened(tmp_path, images=images)
    assert "25." in str(caught.value) and "cannot be read" in str(caught.value)
