"""What people bring from other tools: flags that have another name here, and words that stand in a wrong place."""

from __future__ import annotations

from typing import Any

_MEANT = {
    **dict.fromkeys(("--calibration", "--calibration-data", "--calib", "--calib-data", "--dataset"), "--data"),
    **dict.fromkeys(("--output", "--output-path", "--outfile", "--save", "--output-model", "--out-file"), "--out"),
    **dict.fromkeys(("--validation", "--val", "--val-data", "--test", "--test-data", "--eval"), "--evaluation"),
    **dict.fromkeys(("--device", "--ep", "--execution-provider", "--backend", "--gpu", "--cuda"), "--provider"),
    **dict.fromkeys(("--num-threads", "--jobs", "--workers"), "--threads"),
    **dict.fromkeys(("--input-shape", "--input-shapes", "--shapes"), "--shape"),
    **dict.fromkeys(("--sparsity", "--amount", "--pruning-ratio"), "--ratio"),
    **dict.fromkeys(("--fp16", "--half"), "--float16"),
    **dict.fromkeys(("--int4", "--int8", "--weight-bits", "--num-bits"), "--bits"),
    **dict.fromkeys(("--lr", "--rate"), "--learning-rate"),
    **dict.fromkeys(("--overwrite", "--yes", "-f", "-y"), "--force"),
    **dict.fromkeys(("--debug", "--log-level"), "--verbose"),
    **dict.fromkeys(("--random-seed", "--random-state"), "--seed"),
    "--label": "--labels",
    "--metrics": "--metric",
    "--teacher-model": "--teacher",
    "--config": "RECIPE, without a flag, first",
    **dict.fromkeys(("--model", "--input", "--input-model", "--onnx", "-m", "-i"), "MODEL, without a flag"),
}
"""Flags of other tools, and what they are called here."""


def told(error: Any) -> str:
    """The message of a usage error of Click; a flag of other tools is told with its name here."""
    message: str = error.format_message()
    name = getattr(error, "option_name", None)
    meant = _MEANT.get(name) if name is not None and type(error).__name__ == "NoSuchOption" else None
    if meant is None or (meant.startswith("--") and meant not in _flags(error)):
        return message
    return f"No such option: {name}; it is {meant} here"


def hint(error: Any) -> str:
    """Where help is; and where what is given too much may belong."""
    context = getattr(error, "ctx", None)
    if context is None:
        return ""
    see = f"see: {context.command_path} --help"
    if "--data" in _flags(error) and "unexpected extra argument" in error.format_message():
        return f"data is given with --data DATA, the file to write with -o FILE; {see}"
    return see


def _flags(error: Any) -> set[str]:
    context = getattr(error, "ctx", None)
    return {name for parameter in context.command.params for name in parameter.opts} if context is not None else set()
