"""YAML or JSON text -> plain data, with the line and column of every key and value.

Scalars follow YAML 1.2's core schema: ``1e-3`` is a number, ``no`` and ``on`` are strings. Duplicate keys, anchors
and aliases are faults: a recipe is read by people, and aliases can make a small file huge.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from ..errors import OnnxpressError, Place, RecipeError

Path = tuple[str | int, ...]

_NUMBERS = {
    "tag:yaml.org,2002:int": (r"[-+]?[0-9]+|0x[0-9a-fA-F]+|0o[0-7]+", "-+0123456789"),
    "tag:yaml.org,2002:float": (
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan",
        "-+.0123456789",
    ),
    "tag:yaml.org,2002:bool": (r"true|false", "tf"),
    "tag:yaml.org,2002:null": (r"null|~|", ["n", "~", ""]),
}


@dataclass
class Document:
    """Plain data and where its parts stand. ``values`` and ``keys`` map a path such as ("passes", 0) to its place."""

    file: str
    data: Any = None
    values: dict[Path, Place] = field(default_factory=dict)
    keys: dict[Path, Place] = field(default_factory=dict)
    faults: list[OnnxpressError] = field(default_factory=list)

    def place(self, path: Path, *, of_key: bool = False) -> Place:
        """The place of a path, or of its nearest parent that has one."""
        if of_key and path in self.keys:
            return self.keys[path]
        while path and path not in self.values:
            path = path[:-1]
        return self.values.get(path, Place(self.file))


def read_document(text: str, file: str) -> Document:
    """Parse text; a syntax error is raised at once, other faults are collected in the document."""
    import yaml

    document = Document(file)
    try:
        root = _loader()(text).get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise RecipeError(f"not valid YAML: {error.problem or error.context}", place=_place(file, mark)) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise RecipeError(f"not valid YAML: {error or type(error).__name__}", place=Place(file)) from error
    document.data = _convert(root, (), document) if root is not None else None
    return document


@cache
def _loader() -> Any:
    import yaml

    class Loader(yaml.SafeLoader):
        """YAML 1.2 scalars, no aliases."""

        yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
                raise yaml.composer.ComposerError(None, None, "anchors and aliases are not supported", mark)
            return super().compose_node(parent, index)

    for tag, (pattern, first) in _NUMBERS.items():
        Loader.add_implicit_resolver(tag, re.compile(rf"^(?:{pattern})$"), list(first))
    return Loader


def _place(file: str, mark: Any) -> Place:
    return Place(file, mark.line + 1, mark.column + 1) if mark is not None else Place(file)


def _convert(node: Any, path: Path, document: Document) -> Any:
    document.values[path] = _place(document.file, node.start_mark)
    if node.id == "mapping":
        return _mapping(node, path, document)
    if node.id == "sequence":
        return [_convert(item, (*path, i), document) for i, item in enumerate(node.value)]
    return _scalar(node, document)


def _mapping(node: Any, path: Path, document: Document) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in node.value:
        name, place = str(key.value), _place(document.file, key.start_mark)
        if key.id != "scalar":
            document.faults.append(RecipeError("a key must be a plain word", place=place))
            continue
        if name in result:
            document.faults.append(RecipeError(f"duplicate key '{name}'", place=place))
        document.keys[(*path, name)] = place
        result[name] = _convert(value, (*path, name), document)
    return result


def _scalar(node: Any, document: Document) -> Any:
    kind, text = node.tag.rpartition(":")[2], node.value
    try:
        match kind:
            case "int":
                return int(text, 0) if text[:2] in ("0x", "0o") else int(text)
            case "float":
                return float(text.replace(".inf", "inf").replace(".nan", "nan"))
            case "bool":
                return text == "true"
            case "null":
                return None
            case "str":
                return str(text)
    except ValueError as error:
        document.faults.append(RecipeError(str(error), place=_place(document.file, node.start_mark)))
        return None
    document.faults.append(
        RecipeError(f"tag '{node.tag}' is not supported", place=_place(document.file, node.start_mark))
    )
    return None


def set_value(document: Document, assignment: str) -> None:
    """Apply ``--set passes.1.prune_channels.ratio=0.3`` to a document; the value is read as YAML."""
    dotted, equals, text = assignment.partition("=")
    place = Place(f"--set {assignment}")
    if not equals or not dotted:
        raise RecipeError("write it as path.to.option=value", place=place)
    path = tuple(int(part) if part.isdecimal() else part for part in dotted.split("."))
    value = read_document(text, place.file)
    _assign(document, path, value.data, place)
    document.values = {p: q for p, q in document.values.items() if p[: len(path)] != path} | {path: place}
    document.keys[path] = place


def _assign(document: Document, path: Path, value: Any, place: Place) -> None:
    parent: Any = document.data
    for depth, part in enumerate(path[:-1]):
        parent = _child(parent, part, path[: depth + 1], place)
    last = path[-1]
    if isinstance(parent, list):
        _child(parent, last, path, place)
        parent[int(last)] = value
    elif isinstance(parent, dict):
        parent[str(last)] = value
    else:
        raise RecipeError(f"'{_dotted(path[:-1])}' holds no options", place=place)


def _child(parent: Any, part: str | int, path: Path, place: Place) -> Any:
    """The value at ``part``; a step written as a bare name, and a section that is not there yet, get empty options."""
    if isinstance(parent, list):
        if not isinstance(part, int) or part >= len(parent):
            raise RecipeError(f"'{_dotted(path)}': the list has entries 0 to {len(parent) - 1}", place=place)
        if isinstance(parent[part], str):
            parent[part] = {parent[part]: {}}
        return parent[part]
    if isinstance(parent, dict):
        if parent.get(str(part)) is None:
            parent[str(part)] = {}
        return parent[str(part)]
    raise RecipeError(f"'{_dotted(path)}' is not in the recipe", place=place)


def _dotted(path: Path) -> str:
    return ".".join(map(str, path)) or "the recipe"
