"""Parts of a model that onnx-ir drops without a word: refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import ModelError
from ..files.protobuf import attributes, bodies


def refuse_what_would_be_lost(proto: Any, path: Path) -> None:
    if proto.training_info:
        raise ModelError(f"{path} has training_info, which would be lost", hint="export the model for inference")
    sparse = [t.values.name for body in bodies(proto) for t in getattr(body, "sparse_initializer", ())]
    sparse += [a.sparse_tensor.values.name for a in attributes(proto) if a.HasField("sparse_tensor")]
    if sparse:
        raise ModelError(
            f"{path} has sparse_initializer or sparse_value entries, which would be lost: {', '.join(sparse[:5])}",
            hint="store these weights as dense initializers first",
        )
