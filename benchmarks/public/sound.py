"""Sound and brain waves: notes, spoken sentences, and sleep spindles in noise."""

from __future__ import annotations

import io
import subprocess
import wave

import numpy as np

from benchmarks.data import sentences


def notes(number: int, samples: int = 43844, rate: int = 22050) -> np.ndarray:
    """Chords of decaying harmonics over noise, float32 [number, samples, 1]."""
    rng, time = np.random.default_rng(0), np.arange(samples) / rate
    played = np.zeros((number, samples))
    for row in played:
        for _ in range(rng.integers(4, 12)):
            pitch, start = 440 * 2 ** ((rng.integers(40, 84) - 69) / 12), rng.uniform(0, 1.7)
            since = np.clip(time - start, 0, None)
            heard = (time > start) * np.exp(-since * rng.uniform(1, 6)) * rng.uniform(0.1, 0.4)
            row += heard * sum(np.sin(2 * np.pi * pitch * k * since) / k**1.5 for k in range(1, 7))
    return (played + rng.normal(0, 0.003, played.shape)).astype(np.float32)[..., None]


def speech(number: int, rate: int = 16000) -> list[np.ndarray]:
    """Sentences spoken by espeak-ng with silence around them, float32 [samples]."""
    rng = np.random.default_rng(0)
    return [_spoken(text, rng, rate) for text in sentences(number)]


def _spoken(text: str, rng: np.random.Generator, rate: int) -> np.ndarray:
    command = ["espeak-ng", "--stdout", "-s", str(rng.integers(130, 200)), "-p", str(rng.integers(20, 80)), text]
    with wave.open(io.BytesIO(subprocess.run(command, capture_output=True, check=True).stdout)) as file:
        heard = np.frombuffer(file.readframes(file.getnframes()), np.int16) / 32768
        at = np.arange(0, len(heard) - 1, file.getframerate() / rate)
    quiet = [np.zeros(int(rng.uniform(0.2, 1) * rate)) for _ in range(2)]
    voice = np.concatenate([quiet[0], np.interp(at, np.arange(len(heard)), heard), quiet[1]])
    return (voice * rng.uniform(0.3, 1) + rng.normal(0, 0.005, len(voice))).astype(np.float32)


def brain_waves(number: int, samples: int = 7500, rate: int = 250) -> np.ndarray:
    """Half a minute of 1/f noise with bursts of 11 to 15 Hz, float64 [number, samples], microvolts."""
    rng, time = np.random.default_rng(0), np.arange(samples) / rate
    spectrum = np.fft.rfft(rng.normal(size=(number, samples)))
    waves = np.fft.irfft(spectrum / np.maximum(np.fft.rfftfreq(samples, 1 / rate), 0.5) ** 0.8, samples)
    waves *= 20 / waves.std(1, keepdims=True)
    for row in waves:
        for _ in range(rng.integers(1, 7)):
            burst = np.exp(-(((time - rng.uniform(1, 29)) / rng.uniform(0.2, 0.5)) ** 2))
            row += burst * rng.uniform(15, 40) * np.sin(2 * np.pi * rng.uniform(11, 15) * time)
    return waves
