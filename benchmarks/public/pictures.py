"""Pictures: photographs that scikit-image brings, puzzles of letters, pages."""

from __future__ import annotations

import numpy as np

from benchmarks.data import pages

ALPHABET = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"
PHOTOGRAPHS = ["astronaut", "camera", "astronaut", "coffee"]  # with people, and without


def photographs(number: int, side: int) -> np.ndarray:
    """Parts of photographs, mirrored and lit differently, float32 [number, 3, side, side], 0 to 255."""
    from PIL import Image
    from skimage import color, data

    rng, made = np.random.default_rng(0), []
    for place in range(number):
        picture = getattr(data, PHOTOGRAPHS[place % len(PHOTOGRAPHS)])()
        picture = picture if picture.ndim == 3 else color.gray2rgb(picture)
        edge = int(min(picture.shape[:2]) * rng.uniform(0.6, 1))
        top, left = (rng.integers(0, length - edge + 1) for length in picture.shape[:2])
        part = picture[top : top + edge, left : left + edge, :3][:, :: rng.choice([1, -1])]
        shown = np.asarray(Image.fromarray(np.ascontiguousarray(part)).resize((side, side)), np.float32)
        made.append(np.clip(shown * rng.uniform(0.6, 1.2), 0, 255).transpose(2, 0, 1))
    return np.stack(made)


def puzzles(number: int, width: int = 160, height: int = 60, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    """Letters and digits, turned, on lines and noise: float32 [number, height, width, 3], 0 to 255, and the text."""
    rng = np.random.default_rng(seed)
    texts = ["".join(rng.choice(list(ALPHABET), rng.integers(4, 6))) for _ in range(number)]
    return np.stack([_puzzle(text, width, height, rng) for text in texts]), texts


def _puzzle(text: str, width: int, height: int, rng: np.random.Generator) -> np.ndarray:
    from PIL import Image, ImageDraw, ImageFont

    paper = Image.new("RGB", (width, height), tuple(int(c) for c in rng.integers(190, 256, 3)))
    pen = ImageDraw.Draw(paper)
    for _ in range(4):
        pen.line([tuple(int(c) for c in rng.integers(0, (width, height))) for _ in range(2)], fill=(120, 140, 160))
    for place, letter in enumerate(text):
        size, ink = int(height * rng.uniform(0.55, 0.75)), tuple(int(c) for c in rng.integers(0, 110, 3))
        tile = Image.new("L", (size, size + 8))
        ImageDraw.Draw(tile).text((4, 0), letter, fill=255, font=ImageFont.load_default(size))
        tile = tile.rotate(float(rng.uniform(-20, 20)), resample=Image.Resampling.BILINEAR)
        paper.paste(ink, (6 + place * (width - 10) // len(text), int(rng.integers(0, height // 4))), tile)
    return np.clip(np.asarray(paper, np.float32) + rng.normal(0, 6, (height, width, 3)), 0, 255)


def documents(number: int, height: int, width: int) -> np.ndarray:
    """Pages of text, normalized as ImageNet's, float32 [number, 3, height, width]."""
    mean, deviation = (np.array(v)[:, None, None] for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    square = pages(number, max(height, width))[:, :, :height, :width]
    return ((square / 2 + 0.5 - mean) / deviation).astype(np.float32)
