"""How large a model is: bytes on disk, bytes of its weights, and bytes as they would travel, compressed by zstd."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..model import load

_ZSTD_LEVEL = 3  # zstd's own default


@dataclass(frozen=True)
class Size:
    """Bytes. ``counted`` is what budgets look at: ``file``, plus constants that the graph makes at run time."""

    file: int
    weights: int
    zstd: int
    counted: int


def measure_size(path: Path) -> Size:
    """The size of a model with its external data files, each counted once."""
    model = load(path)
    files = model.files
    on_disk = sum(file.stat().st_size for file in files)
    return Size(on_disk, model.weight_bytes(), sum(map(_compressed_bytes, files)), on_disk + model.generated_bytes())


class _Nowhere:
    """A file that forgets what is written."""

    def write(self, data: bytes) -> int:
        return len(data)


def _compressed_bytes(path: Path) -> int:
    import zstandard

    with path.open("rb") as file:
        _, written = zstandard.ZstdCompressor(level=_ZSTD_LEVEL).copy_stream(file, _Nowhere())  # type: ignore[arg-type]
    return written
