"""The bytes of results: SHA-256 of what each recipe makes of each model, to be compared across a change of the code.

    python -m tests.tools.hashes AFTER.json [--against BEFORE.json] [MODEL ...]

Every file in configs/ is applied to the sample models that it is for, and each of ``STEPS`` to the models named, on
made-up data. A run that ends in a fault counts with its message. What comes out otherwise in two runs of one tree
(choices by time) says nothing: run it twice before the change, and leave those out with a third file as --unstable.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from compress_ops import Job, OnnxpressError, load_recipe, parse_recipe, run
from tests.test_configs import CASES, QUICK, SAMPLES

STEPS = {
    "static": "[simplify, quantize_static]",
    "static-portable": "[simplify, {quantize_static: {portable: true, per_channel: false, calibrator: entropy}}]",
    "dynamic": "[simplify, quantize_dynamic]",
    "four-bits": "[simplify, {quantize_weights: {bits: 4}}]",
    "four-bits-gptq": "[simplify, {quantize_weights: {bits: 4, method: gptq}}]",
    "codebook": "[simplify, {cluster_weights: {clusters: 16}}]",
    "float16": "[simplify, to_float16]",
    "smooth": "[simplify, smooth, quantize_static]",
    "equalize": "[simplify, equalize, quantize_static, correct_bias]",
    "channels": "[simplify, {prune_channels: {ratio: 0.3}}]",
    "channels-refit": "[simplify, {prune_channels: {ratio: 0.3, score: activation_weight}}, refit]",
    "weights": "[simplify, {prune_weights: {ratio: 0.5}}, pack_sparse]",
    "sparsegpt": "[simplify, {prune_weights: {ratio: 0.5, score: hessian}}, quantize_static]",
    "low-rank": "[simplify, {low_rank: {energy: 0.9}}, share_weights]",
    "ternary": "[simplify, {ternarize_weights: {}}]",
}
TEMPORARY = re.compile(r"\S*\.onnxpress-\S*/")
TEXT = "version: 1\nseed: 0\ndata: {{calibration: random}}\nmeasure: {{seconds: 0.05}}\npasses: {}\n"


def results(models: list[Path]) -> Iterator[tuple[str, str]]:
    """Name and hash (or fault) of each result."""
    for config, sample in CASES:
        yield f"{config.stem} {sample}", made(Job(load_recipe(config, QUICK), SAMPLES / f"{sample}.onnx", None))
    for model in models:
        for name, steps in STEPS.items():
            yield (
                f"{name} {model.parent.name}/{model.stem}",
                made(Job(parse_recipe(TEXT.format(steps)), model, None, measure=False)),
            )


def made(job: Job) -> str:
    """The hash of the file that a job writes, or its fault."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.onnx"
        try:
            run(Job(job.loaded, job.model, out, measure=job.measure))
        except OnnxpressError as error:
            return f"fault: {TEMPORARY.sub('', str(error))}".replace(folder, "")
        files = sorted(file for file in Path(folder).iterdir() if file.suffix in (".onnx", ".data"))
        return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def main() -> None:
    """Write what was made, and tell what is other than before."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("after", type=Path)
    parser.add_argument("--against", type=Path)
    parser.add_argument("--unstable", type=Path)
    parser.add_argument("models", type=Path, nargs="*")
    options = parser.parse_args()
    found: dict[str, str] = {}
    for name, result in results(options.models):
        found[name] = result
        print(name, result[:100], flush=True)
        options.after.write_text(json.dumps(found, indent=1))
    if options.against:
        before = json.loads(options.against.read_text())
        other = json.loads(options.unstable.read_text()) if options.unstable else before
        stable = [name for name in found if before.get(name) == other.get(name)]
        differ = [name for name in stable if found[name] != before.get(name)]
        print(f"{len(stable) - len(differ)} of {len(stable)} as before; other: {', '.join(differ) or 'none'}")


if __name__ == "__main__":
    main()
