"""Random recipes of valid options, written from the passes' own schemas; now and then the text is damaged."""

from __future__ import annotations

import random
from typing import Any

import onnx
import yaml

from compress_ops.catalogue import PASSES
from compress_ops.passes import Need, Pass

_SNIPPETS = [
    "- ",
    ": ",
    "\n",
    "  ",
    "{",
    "]",
    "&a ",
    "*a",
    "!!int ",
    "#",
    "'",
    "\t",
    "\0",
    "\ufeff",
    "-1",
    "1e999",
    ".nan",
]


def recipe(rng: random.Random, proto: onnx.ModelProto, data_name: str) -> str:
    """A recipe of one to three steps, for the model before it was mutated, over the data of that name."""
    patterns = ["*", "*", *(node.op_type for node in proto.graph.node)]
    operations = rng.choices(list(PASSES.values()), k=rng.choice([1, 1, 2, 3]))
    if any(Need.UNQUANTIZED in operation.needs for operation in operations) and rng.random() < 0.8:
        operations.insert(0, PASSES[rng.choice(["quantize_static", "quantize_static", "quantize_dynamic"])])
    passes = [_step(rng, operation, patterns) for operation in operations]
    data = {"calibration": data_name, "batch_size": rng.choice([1, 2, 16])} if rng.random() < 0.8 else {}
    written = {"version": 1, "data": data, "measure": {"seconds": 0.05}, "passes": passes}
    if rng.random() < 0.5:
        written["passes"].insert(0, "simplify")
    text = yaml.safe_dump(written, sort_keys=False)
    return _damaged(rng, text) if rng.random() < 0.1 else text


def _step(rng: random.Random, operation: Pass, patterns: list[str]) -> dict[str, Any]:
    schema = operation.options.model_json_schema()
    chosen = {n: s for n, s in schema["properties"].items() if rng.random() < 0.25 or n in schema.get("required", [])}
    options = {name: _value(rng, kind, schema, patterns) for name, kind in chosen.items()}
    options |= {name: "m.onnx" for name in operation.files if isinstance(options.get(name), str)}
    usual = {"allow_unchanged": True, "allow_larger": True} if rng.random() < 0.8 else {}
    quick = {name: 1 for name in ("epochs", "recover") if name in schema["properties"]}
    return {operation.name: {**quick, **options, **usual}}


def _value(rng: random.Random, kind: dict[str, Any], schema: dict[str, Any], texts: list[str]) -> Any:
    """A value that a JSON Schema takes, numbers mostly near their least so that nothing runs for hours."""
    if "$ref" in kind:
        return _value(rng, schema["$defs"][kind["$ref"].rpartition("/")[2]], schema, texts)
    if "anyOf" in kind:
        return _value(rng, rng.choice(kind["anyOf"]), schema, texts)
    if "enum" in kind:
        return rng.choice(kind["enum"])
    least = kind.get("minimum", kind.get("exclusiveMinimum", 0))
    most = kind.get("maximum", kind.get("exclusiveMaximum"))
    match kind.get("type"):
        case "boolean":
            return rng.random() < 0.5
        case "integer":
            return rng.choice([least, least + 1, min(least + rng.randrange(8), most if most is not None else 10**9)])
        case "number":
            return round(rng.uniform(least, most if most is not None else least + 2), 3)
        case "array":
            inner = kind.get("items", {"type": "string"})
            return [_value(rng, inner, schema, texts) for _ in range(rng.randrange(1, 3))]
        case "object":
            names = kind.get("propertyNames", {}).get("enum", texts)
            return {rng.choice(names): _value(rng, kind.get("additionalProperties") or {}, schema, texts)}
        case "string":
            return rng.choice(texts)
        case _:
            return kind.get("default", kind.get("const"))


def _damaged(rng: random.Random, text: str) -> str:
    start = rng.randrange(len(text))
    middle = rng.choice([*_SNIPPETS, text[start : start + 9] * 2])
    return text[:start] + middle + text[start + rng.randrange(6) :]
