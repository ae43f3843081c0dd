"""Mutants: single lines of the library with one thing changed, named so that they outlive a move of the files.

A mutant is named by file name, function, text of the line and kind of change. Lines outside functions, messages and
annotations are left alone.
"""

from __future__ import annotations

import ast
import copy
import random
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PACKAGES = ("compress_ops", "cli")
SWAPS: dict[type, type] = {
    **{ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq},
    **{ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.And: ast.Or, ast.Or: ast.And},
}
NAMES = {"min": "max", "max": "min", "any": "all", "all": "any"}
EMPTY = {"list": "[]", "dict": "{}", "tuple": "()", "set": "set()", "str": "''", "bool": "False", "int": "0"}
APART = (ast.FunctionDef, ast.ClassDef)
SILENT = (*APART, ast.JoinedStr, ast.Raise, ast.Assert)


class Mutant(NamedTuple):
    """The name of one change."""

    module: str
    function: str
    line: str
    kind: str


class Edit(NamedTuple):
    """Where it is made: ``text`` stands instead of the bytes ``start`` to ``stop`` of a file, on its ``lines``."""

    file: Path
    lines: range
    start: int
    stop: int
    text: str

    def made(self, source: bytes) -> bytes:
        """The file's bytes with the change."""
        return source[: self.start] + self.text.encode() + source[self.stop :]


def functions(node: ast.AST, outer: str = "") -> Iterator[tuple[str, ast.FunctionDef]]:
    """Each function with its qualified name, those inside others too."""
    for child in ast.iter_child_nodes(node):
        name = f"{outer}.{child.name}".lstrip(".") if isinstance(child, APART) else outer
        if isinstance(child, ast.FunctionDef):
            yield name, child
        yield from functions(child, name)


def acting(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes below that compute something: no message, annotation or function within."""
    for part in [node.value] if isinstance(node, ast.AnnAssign) else ast.iter_child_nodes(node):
        if part is not None and not isinstance(part, SILENT):
            yield part
            yield from acting(part)


def changes(node: ast.AST, empty: str) -> Iterator[tuple[ast.AST, str, str]]:
    """What may be changed at a node: the part, the kind of change, the new text."""
    match node:
        case ast.Compare(ops=[op, *_]) | ast.BinOp(op=op) | ast.BoolOp(op=op) if type(op) in SWAPS:
            other, changed = SWAPS[type(op)], copy.copy(node)
            vars(changed).update({"op": other()} if hasattr(node, "op") else {"ops": [other(), *node.ops[1:]]})
            yield node, f"{type(op).__name__} to {other.__name__}", ast.unparse(changed)
        case ast.UnaryOp(op=ast.Not(), operand=inner):
            yield node, "without not", ast.unparse(inner)
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            yield node, "one more", repr(number + 1)
        case ast.Return(value=ast.expr() as value) if ast.unparse(value) != empty:
            yield value, "nothing returned", empty
        case ast.If(test=test) | ast.IfExp(test=test):
            yield from ((test, f"if {value}", value) for value in ("True", "False"))
        case ast.Name(id=name) if name in NAMES:
            yield node, f"{name} to {NAMES[name]}", NAMES[name]


def mutants_of(file: Path, source: bytes) -> dict[Mutant, Edit]:
    """All mutants of a file; of several alike on one line, the first."""
    lines = source.splitlines(keepends=True)
    found: dict[Mutant, Edit] = {}
    starts = [sum(map(len, lines[:number])) for number in range(len(lines))]
    for name, function in functions(ast.parse(source)):
        empty = EMPTY.get(ast.unparse(function.returns).partition("[")[0] if function.returns else "", "None")
        for node, kind, text in (
            change for part in acting(ast.Module(function.body, [])) for change in changes(part, empty)
        ):
            start = starts[node.lineno - 1] + node.col_offset
            stop = starts[node.end_lineno - 1] + node.end_col_offset
            mutant = Mutant(file.name, name, lines[node.lineno - 1].decode().strip(), kind)
            found.setdefault(mutant, Edit(file, range(node.lineno, node.end_lineno + 1), start, stop, f"({text})"))
    return found


def everything(tree: Path) -> dict[Mutant, list[Edit]]:
    """All mutants of the library; more than one place where files of one name have the same function and line."""
    found = defaultdict(list)
    for file in sorted(file for package in PACKAGES for file in (tree / package).rglob("*.py")):
        for mutant, edit in mutants_of(file.relative_to(tree), file.read_bytes()).items():
            found[mutant].append(edit)
    return found


def chosen(places: dict[Mutant, list[Edit]], seed: int, each: int) -> list[Mutant]:
    """So many of each package, kinds alike in number; the files that lie in no folder are one package."""
    draw = random.Random(seed)
    packages: dict[tuple[str, ...], dict[str, list[Mutant]]] = defaultdict(lambda: defaultdict(list))
    for mutant, edits in places.items():
        if len(edits) == 1:
            packages[edits[0].file.parts[:-1][:2]][mutant.kind].append(mutant)
    kinds = [(kinds, kind) for _, kinds in sorted(packages.items()) for kind in draw.sample(sorted(kinds), each)]
    return [draw.choice(kinds[kind]) for kinds, kind in kinds]


def place(mutant: Mutant, places: dict[Mutant, list[Edit]]) -> Edit | None:
    """Where it is now: in a file of that name, or in the one function of that name (made public or not)."""

    def anywhere(one: Mutant) -> tuple[str, ...]:
        return one.function.rpartition(".")[2].lstrip("_"), one.line, one.kind

    here = places.get(mutant, [])
    edits = here if len(here) == 1 else [e for o in places if anywhere(o) == anywhere(mutant) for e in places[o]]
    return edits[0] if len(edits) == 1 else None
