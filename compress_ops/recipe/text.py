"""YAML or JSON text -> plain data, with the line and column of every key and value.

Scalars follow YAML 1.2's core schema: ``1e-3`` is a number, ``no`` and ``on`` are strings. Duplicate keys, anchors,
aliases and tags are faults: a recipe is read by people, and aliases can make a small file huge.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

import yaml

from ..errors import OnnxpressError, Place, RecipeError

Path = tuple[str | int, ...]

_NUMBERS = {
    "tag:yaml.org,2002:int": (r"[-+]?[0-9]+|0x[0-9a-fA-F]+|0o[0-7]+", "-+0123456789"),
    "tag:yaml.org,2002:float": (
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
    "tag:yaml.org,2002:bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "tag:yaml.org,2002:null": (r"null|Null|NULL|~|", ["n", "N", "~", ""]),
}
_LARGEST = 2**63  # whole numbers reach to here; no option takes more, and Python will not print just any
_BREAKS = re.compile("[\x85\u2028\u2029\ufeff]")
_ESCAPED = re.compile("[\ud800-\udfff]")


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

    def at(self, path: Path) -> Any:
        """The data at a path; None where there is nothing."""
        found: Any = self.data
        for part in path:
            found = found[part] if _has(found, part) else None
        return found

    def written(self, start: Path, rest: Iterable[str | int]) -> Path:
        """``start``, and after it those parts of ``rest`` that lead on through the data; others are left out."""
        path = start
        for part in rest:
            path = (*path, part) if _has(self.at(path), part) else path
        return path

    def replace(self, path: Path, place: Place) -> None:
        """From now on the path stands at ``place``, and nothing that stood below it counts."""
        for places in (self.values, self.keys):
            for old in [old for old in places if old[: len(path)] == path]:
                del places[old]
            places[path] = place


def _has(data: Any, part: str | int) -> bool:
    return part in data if isinstance(data, dict) else isinstance(data, list) and part in range(len(data))


def read_document(text: str, file: str) -> Document:
    """Parse text; a syntax error is raised at once, other faults are collected in the document."""

    document = Document(file)
    try:
        root = _loader()(text).get_single_node()
    except Exception as error:  # beside its own errors PyYAML lets a dozen others out
        raise _syntax_error(error, text, file) from error
    document.data = _convert(root, (), document) if root is not None else None
    return document


def _syntax_error(error: Any, text: str, file: str) -> RecipeError:
    """PyYAML's errors, and what goes wrong inside it, in one line."""
    place = Place(file)
    if isinstance(error, RecursionError):
        told = "nested too deeply"
    elif hasattr(error, "problem"):
        told = _TAB if _is_tab(error) else ", ".join(part for part in (error.context, error.problem) if part)
        place = _place(file, error.problem_mark or error.context_mark)
    elif hasattr(error, "character"):
        told, before = f"character U+{error.character:04X} is not allowed", text[: error.position]
        place = Place(file, before.count("\n") + 1, error.position - before.rfind("\n"))
    else:
        told = str(error) or type(error).__name__
    return RecipeError(f"not valid YAML: {told}", place=place)


_TAB = "there is a tab; lines are indented with spaces"


def _is_tab(error: Any) -> bool:
    return "'\\t'" in str(error.problem)


@cache
def _loader() -> Any:
    class Loader(yaml.SafeLoader):
        """YAML 1.2 scalars, no aliases, no tags."""

        yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012

        def compose_node(self, parent: Any, index: Any) -> Any:
            event = self.peek_event()  # type: ignore[no-untyped-call]
            if event.anchor:
                raise yaml.composer.ComposerError(None, None, "anchors and aliases are not supported", event.start_mark)
            if event.tag:
                raise yaml.composer.ComposerError(None, None, f"tag '{event.tag}' is not supported", event.start_mark)
            return super().compose_node(parent, index)

    for tag, (pattern, first) in _NUMBERS.items():
        Loader.add_implicit_resolver(tag, re.compile(rf"^(?:{pattern})$"), list(first))
    return Loader


def dump_recipe(sections: Mapping[str, Any]) -> str:
    """Plain data as YAML that this loader and those of YAML 1.1 read alike; what either would misread is quoted."""
    return yaml.dump(sections, Dumper=_dumper(), sort_keys=False, width=120, allow_unicode=True)


@cache
def _dumper() -> Any:
    class Dumper(yaml.SafeDumper):
        """Quotes what either version would misread, and repeats what YAML would refer back to."""

        def ignore_aliases(self, data: Any) -> bool:
            return True

    def as_text(dumper: Any, text: str) -> Any:
        """In double quotes where line breaks of Unicode, which other styles fold, must be escaped."""
        style = '"' if _BREAKS.search(text) else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)

    Dumper.add_representer(str, as_text)
    for tag, (pattern, first) in _NUMBERS.items():
        Dumper.add_implicit_resolver(tag, re.compile(rf"^(?:{pattern})$"), list(first))
    return Dumper


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
        place = _place(document.file, key.start_mark)
        name = _key(key, place, document)
        if name is None:
            continue
        if name in result:
            document.faults.append(RecipeError(f"duplicate key '{name}'", place=place))
        document.keys[(*path, name)] = place
        result[name] = _convert(value, (*path, name), document)
    return result


def _key(node: Any, place: Place, document: Document) -> str | None:
    try:
        if node.id != "scalar":
            raise ValueError("a key must be a plain word")
        return _text(node.value)
    except ValueError as error:
        document.faults.append(RecipeError(str(error), place=place))
        return None


def _scalar(node: Any, document: Document) -> Any:
    try:
        return _value(node.tag.rpartition(":")[2], node.value)
    except ValueError as error:
        document.faults.append(RecipeError(str(error), place=_place(document.file, node.start_mark)))
        return None


def _value(kind: str, text: str) -> Any:
    match kind:
        case "int":
            return _whole_number(text)
        case "float":
            return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        case "bool":
            return text.lower() == "true"
        case "null":
            return None
    return _text(text)


def _text(text: str) -> str:
    """Text that names can hold. JSON escapes rare characters as pairs of surrogates, which are joined here."""
    joined = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") if _ESCAPED.search(text) else text
    if "\0" in joined or joined.count("\ufffd") > text.count("\ufffd"):
        raise ValueError("the text holds characters that no name can hold")
    return joined


def _whole_number(text: str) -> int:
    number = int(text, 0) if text[:2] in ("0x", "0o") else int(text[:100])
    if len(text) > 100 or abs(number) >= _LARGEST:
        raise ValueError("the number is too large")
    return number


def set_value(document: Document, assignment: str) -> None:
    """Apply ``--set passes.1.prune_channels.ratio=0.3`` to a document; the value is read as YAML.

    A recipe that is no mapping is left as it is: it is a fault of its own.
    """
    dotted, equals, text = assignment.partition("=")
    place = Place(f"--set {' '.join(assignment.split())}")
    if not equals or not dotted:
        raise RecipeError("write it as path.to.option=value", place=place)
    value = read_document(text, place.file)
    document.faults += value.faults
    if isinstance(document.data, dict):
        _assign(document, dotted.split("."), value.data, place)


class Flag(NamedTuple):
    """A value that a command's flag gives, and the path in a recipe where it belongs."""

    name: str
    path: tuple[str, ...]
    value: Any


def set_flag(document: Document, flag: Flag) -> None:
    """Put the value of a flag in place; a section that is no mapping is left as it is, being a fault of its own."""
    if all(isinstance(document.at(flag.path[:depth]), dict | None) for depth in range(1, len(flag.path))):
        _assign(document, list(flag.path), flag.value, Place(flag.name))


def _assign(document: Document, parts: list[str], value: Any, place: Place) -> None:
    path: Path = ()
    for number in range(len(parts) - 1):
        path = (*path, _entry(document, path, parts[number:], place))
        if _open(document, path):
            document.replace(path, place)
    path = (*path, _entry(document, path, parts[-1:], place))
    document.at(path[:-1])[path[-1]] = value
    document.replace(path, place)


def _entry(document: Document, path: Path, rest: list[str], place: Place) -> str | int:
    """The first part of ``rest`` as the key or the index that it is below ``path``."""
    parent, part = document.at(path), rest[0]
    if isinstance(parent, list):
        return _index(parent, path, rest, place)
    if not isinstance(parent, dict):
        raise RecipeError(f"'{_dotted(path)}' holds no options", place=place)
    if isinstance(document.at(path[:-1]), list) and parent and part not in parent:
        raise RecipeError(f"'{_dotted(path)}' is {next(iter(parent))}, not {part}", place=place)
    return part


def _index(entries: list[Any], path: Path, rest: list[str], place: Place) -> int:
    part = rest[0]
    if not (part.isdecimal() and len(part) < 10 and int(part) < len(entries)):
        there = f"has entries 0 to {len(entries) - 1}" if entries else "is empty"
        named = [_dotted((*path, i, *rest)) for i, entry in enumerate(entries) if part in _names(entry)]
        hint = f"write {' or '.join(named)}" if named else ""
        raise RecipeError(f"'{_dotted((*path, part))}': the list {there}", hint=hint, place=place)
    return int(part)


def _names(entry: Any) -> list[Any]:
    """What a step is called by: its bare name, or its one key."""
    return list(entry) if isinstance(entry, dict) else [entry]


def _open(document: Document, path: Path) -> bool:
    """Give options to a section that is not there yet, or to a step that is a bare name; whether it was not there."""
    parent, found = document.at(path[:-1]), document.at(path)
    is_bare = isinstance(found, str) and isinstance(parent, list)
    if found is None or is_bare:
        parent[path[-1]] = {found: {}} if is_bare else {}
    return found is None


def _dotted(path: Path) -> str:
    return ".".join(map(str, path))
