"""Weights of packed codes become floats that are rounded in the graph, and back: ternary, binary, few bits in blocks.

    stored    w = s (u - z), codes u = f k with k in 0 ... n - 1, looked up from packed bytes (graph/packing.py)
    trained   u = f clip(round(v / c + m), 0, n - 1), m = z / f, with dL/dv straight through the rounding
    after     k = clip(round(v / c + m), 0, n - 1), packed as it was

v is 0 where the weight is, so that a mask can hold it there. The gradient passes up to half a step outside the codes: a
sign turns, and turns back, within that (Courbariaux et al. 2015, BinaryConnect, arXiv:1511.00363; Li and Liu 2016,
ternary weight networks, arXiv:1605.04711). Thresholds stay in the middle between codes; scales s are trained as factors
(``learned_steps``). What a form decodes to is found by feeding codes to the decoding graph itself, so every form that
looks codes up and then only scales, shifts and reshapes them is one case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np

from ...arrays import Array
from ...graph.codebooks import computed_values
from ...graph.edit import Editor, constant_of
from ...graph.packing import digit, pack, per_byte
from ...graph.part import find, part
from ...lazy import ir
from ...model import ONNX_DOMAINS, Model
from ...runtime import CPU, Session, open_session
from .fake_quantization import tensor_of
from .float_weights import weight_arrays

_STEP = 2.0**-3  # c: a power of two, so that codes come back exactly
_INSIDE = 0.49  # of a step: what lies farther from its middle is rounded to a neighbour
_WIDE = 64  # how far outside the codes rounding goes on, so that the clip behind it decides what passes
_MOST = 128  # levels for which 8 bits hold that too
_NEAREST = 0.98  # of the codes, where weights were rounded to nearest
_DECODING = ("Reshape", "Sub", "Mul", "Slice", "Transpose")


@dataclass(frozen=True)
class Packed:
    """``planes`` hold bytes, one plane for each of the ``bases``; ``codes`` u is what they are looked up as.

    ``path`` are the nodes between u and the weight, which the last of them gives.
    """

    model: Model
    planes: tuple[str, ...]
    bases: tuple[int, ...]
    unit: float
    codes: ir.Value
    path: tuple[ir.Node, ...]

    @property
    def name(self) -> str:
        return self.planes[0]

    @property
    def levels(self) -> int:
        return prod(self.bases)

    @property
    def weight(self) -> ir.Value:
        return self.path[-1].outputs[0] if self.path else self.codes

    @property
    def scale(self) -> str:
        """The name of the stored factors; empty where there is not one set of them."""
        factors = [node.inputs[1] for node in self.path if node.op_type == "Mul"]
        stored = [value.name or "" for value in factors if value is not None and value.is_initializer()]
        return stored[0] if len(stored) == 1 else ""

    @cached_property
    def numbers(self) -> Array:
        """float32 k, in the shape of u."""
        (looked_up,) = _session(self.model, [], self.codes.name or "").run({}).values()
        return np.rint(looked_up / self.unit).astype(np.float32)

    @cached_property
    def _decoded(self) -> tuple[Array, Array, Array]:
        """Of each weight, in its own shape: its code's place in u, the scale of a whole step, and m."""
        plain, true = self._decoder(self.scale), self._decoder("")
        zero, shape = np.zeros(self.numbers.shape), self.numbers.shape
        first = plain(zero)  # -z: scales may be 0, and then the true ones tell nothing
        return self._places(plain, first), true(np.full(shape, self.unit)) - true(zero), -first / self.unit

    def _decoder(self, ones: str) -> Callable[[Array], Array]:
        """What codes u decode to; ``ones`` names weights that are taken as such."""
        session = _session(self.model, [self.codes], self.weight.name or "", ones)

        def weight_of(codes: Array) -> Array:
            (found,) = session.run({self.codes.name or "": codes.astype("float32")}).values()
            return found.astype("float64")

        return weight_of

    def _places(self, decode: Callable[[Array], Array], none: Array) -> Array:
        """Each place tells its digits to the base 1024, one after another: exact in single precision."""
        count = np.arange(self.numbers.size).reshape(self.numbers.shape)
        places = np.zeros(none.shape, np.int64)
        for power in range(3):
            found = decode(count // 1024**power % 1024) - none
            places = places + np.rint(found).astype(np.int64) * 1024**power
        return places

    @cached_property
    def middle(self) -> Array:
        """float32 m, in the shape of u; 0 where no weight is decoded from a code."""
        places, _, middle = self._decoded
        spread = np.zeros(self.numbers.size, np.float32)
        spread[places.ravel()] = np.rint(middle.ravel() * 2) / 2
        return spread.reshape(self.numbers.shape)

    def start(self, before: Model | None) -> Array:
        """float32 v: where the weights lay that were rounded to these codes, else the middle of each step."""
        steps = self.numbers - self.middle
        for array in self._found(before):
            exact = steps.copy()
            places, scale, _ = self._decoded
            exact.reshape(-1)[places.ravel()] = (array / np.where(scale != 0, scale, 1)).ravel()
            rounded = np.clip(np.rint(exact + self.middle), 0, self.levels - 1)
            if (rounded == self.numbers).mean() > _NEAREST:
                return (np.clip(exact, steps - _INSIDE, steps + _INSIDE) * _STEP).astype(np.float32)
        return (steps * _STEP).astype(np.float32)

    def kept(self, before: Model | None) -> Array | None:
        """Where a pruned weight is not held at zero, in the shape of u; None where nothing was pruned."""
        for array in self._found(before):
            places = self._decoded[0][array == 0]
            if len(places) and not (self.numbers - self.middle).reshape(-1)[places].any():
                keep = np.ones(self.numbers.size, bool)
                keep[places] = False
                return keep.reshape(self.numbers.shape)
        return None

    def _found(self, before: Model | None) -> Iterator[Array]:
        """What the weight's readers read before it was packed, in its own shape."""
        return weight_arrays(self.weight, self._decoded[0].shape, before)

    def rounded(self, numbers: Array) -> Array:
        """float32 k of numbers v."""
        return np.clip(np.rint(numbers / _STEP + self.middle), 0, self.levels - 1)

    def stored(self, codes: Array) -> dict[str, Array]:
        """The bytes of each plane, by name."""
        whole, found = codes.astype(np.uint8).reshape(codes.shape[0], -1), {}
        for position, (name, base) in enumerate(zip(self.planes, self.bases, strict=True)):
            tensor = tensor_of(self.model.graph.initializers[name])
            missing = tensor.shape.numpy()[-1] * per_byte(base) - whole.shape[1]
            filled = np.pad(whole, ((0, 0), (0, missing)))
            found[name] = pack(digit(filled, self.bases, position), base).reshape(tensor.shape.numpy())
        return found


def find_packed(model: Model) -> list[Packed]:
    """The packed weights of the main graph, in the order of their planes."""
    computed = computed_values(model)
    groups: dict[ir.Value, list[tuple[str, int, float]]] = {}
    for name, value in model.graph.initializers.items():
        found = _looked_up(value, computed)
        if found is not None:
            groups.setdefault(found[0], []).append((name, *found[1:]))
    made = []
    for codes, planes in groups.items():
        names, bases, units = zip(*sorted(planes, key=lambda plane: plane[2]), strict=True)
        made.append(Packed(model, names, bases, units[0], codes, tuple(_path(codes, computed))))
    return made


def _looked_up(value: ir.Value, computed: set[ir.Value]) -> tuple[ir.Value, int, float] | None:
    """Of bytes that one lookup unpacks: the sum of all planes' digits, the base, and what one digit counts."""
    nodes = []
    for wanted in ("Cast", "Gather", "Reshape"):
        uses = list(value.uses())
        if len(uses) != 1 or uses[0].node.op_type != wanted or uses[0].node.domain not in ONNX_DOMAINS:
            return None
        nodes.append(uses[0].node)
        value = nodes[-1].outputs[0]
    table = _table(nodes[1])
    if table is None or value in computed or nodes[1].inputs[1] is not nodes[0].outputs[0]:
        return None
    while len(uses := list(value.uses())) == 1 and uses[0].node.op_type in ("Add", "Slice"):
        value = uses[0].node.outputs[0]
    return value, len(set(table[:, 0].tolist())), float(table[1, 0])


def _table(node: ir.Node) -> Array | None:
    """The 256 rows of digits that a Gather reads as floats."""
    cast = node.inputs[0].producer() if node.inputs[0] is not None else None
    tensor = constant_of(cast.inputs[0]) if cast is not None and cast.op_type == "Cast" else None
    if cast is None or tensor is None or len(tensor.shape) != 2 or tensor.shape.numpy()[0] != 256:
        return None
    floats = ir.DataType(cast.attributes["to"].as_int()) == ir.DataType.FLOAT
    return tensor.numpy().astype("float32") if floats and tensor.dtype == ir.DataType.UINT8 else None


def _path(value: ir.Value, computed: set[ir.Value]) -> Iterator[ir.Node]:
    while len(uses := list(value.uses())) == 1 and uses[0].node.op_type in _DECODING:
        node = uses[0].node
        if node.inputs[0] is not value or any(other in computed for other in node.inputs):
            return
        yield node
        value = node.outputs[0]


def _session(model: Model, given: Sequence[ir.Value], wanted: str, ones: str = "") -> Session:
    """Gives one tensor, from others or from weights alone; ``ones`` names weights to be taken as such."""
    forms = {value.name or "": (ir.DataType.FLOAT, value.shape) for value in given}
    alone = part(model, forms, [wanted])
    if ones:
        weight = alone.graph.initializers[ones]
        weight.const_value = ir.Tensor(np.ones(tensor_of(weight).shape.numpy(), np.float32), name=ones)
    with alone.exported() as path:
        return open_session(path, CPU)


def with_packed(copy: Model, packed: Sequence[Packed], before: Model | None) -> None:
    """Let a copy hold v, by the names of the first planes, and compute u of it."""
    starts: Mapping[str, Array] = {weight.name: weight.start(before) for weight in packed}
    for weight in packed:
        codes, value = find(copy, weight.codes.name or ""), copy.graph.initializers[weight.name]
        tensor = ir.Tensor(starts[weight.name], name=weight.name)
        value.const_value, value.type, value.shape = tensor, ir.TensorType(tensor.dtype), tensor.shape
        codes.replace_all_uses_with(_rounding(Editor(copy, next(node for node, _ in codes.uses())), weight, value))
    copy.drop_unused()


def _rounding(edit: Editor, weight: Packed, value: ir.Value) -> ir.Value:
    wide = _WIDE if weight.levels <= _MOST else 0
    step, one = (edit.constant(f"{weight.name}/step", np.array(size, np.float32)) for size in (_STEP, 1))
    zero = edit.constant(f"{weight.name}/zero", np.array(wide, np.uint8))
    middle = edit.constant(f"{weight.name}/middle", weight.middle * np.float32(_STEP))
    codes = edit.op("DequantizeLinear", edit.op("QuantizeLinear", edit.op("Add", value, middle), step, zero), one, zero)
    bounds = (edit.constant(f"{weight.name}/bound", np.array(end, np.float32)) for end in (0, weight.levels - 1))
    unit = edit.constant(f"{weight.name}/unit", np.array(weight.unit, np.float32))
    return edit.op("Mul", edit.op("Clip", codes, *bounds), unit)
