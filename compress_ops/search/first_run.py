"""A program that opens models with onnxruntime and runs each once: what crashes there crashes nothing else.

Each line on standard input is a JSON object: ``model`` and ``feeds`` are paths (the latter of an .npz whose arrays are
the values of ``names``), ``providers`` pairs of onnxruntime's names and options, ``threads`` a number. For each line
one is written: a JSON string with the reason why the model does not run, empty if it does. The library starts this file
and imports nothing of it: it needs NumPy and onnxruntime alone, and is there in a moment.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import onnxruntime as ort

_FATAL = 4  # the least that onnxruntime's log tells


def _run(model: str, feeds: str, names: list[str], providers: list[tuple[str, Any]], threads: int) -> None:
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = _FATAL
    if providers[0][0] != "CPUExecutionProvider" and hasattr(ort, "preload_dlls"):
        ort.preload_dlls()
    session = ort.InferenceSession(model, options, providers=[(name, settings) for name, settings in providers])
    wanted = {node.name for node in (*session.get_inputs(), *session.get_overridable_initializers())}
    with np.load(feeds) as stored:
        given = {name: stored[f"arr_{i}"] for i, name in enumerate(names) if name in wanted}
    session.run(None, given)


def main() -> None:
    """Answer until the input ends."""
    for line in sys.stdin:
        try:
            _run(**json.loads(line))
            reason = ""
        except Exception as error:  # onnxruntime raises a dozen unrelated classes
            reason = " ".join(str(error).split()) or type(error).__name__
        print(json.dumps(reason), flush=True)


if __name__ == "__main__":
    main()
