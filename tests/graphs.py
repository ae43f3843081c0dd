"""Parts of graphs, as ONNX text that tests put together with what is their own.

Of attention: y = softmax(q k / s) v wo.
"""

from __future__ import annotations


def each(letters: str, *nodes: str) -> str:
    """Every node once for each letter, which stands where it says ``@``."""
    return " ".join(node.replace("@", letter) for node in nodes for letter in letters)


def turned(keys: str = "0,2,3,1", others: str = "0,2,1,3", rank: int = 4) -> str:
    """``qt``, ``kt`` and ``vt`` of what was split into heads, ``q4``, ``k4`` and ``v4``."""
    perms = zip("qkv", (others, keys, others), strict=True)
    return " ".join(f"{letter}t = Transpose<perm=[{perm}]>({letter}{rank})" for letter, perm in perms)


def attended(keys: str = "kt", values: str = "vt", scale: str = "", query: str = "qt") -> str:
    """``o``: what each head takes."""
    scaled = f"scaled = Div(scores, {scale}) p = Softmax<axis=-1>(scaled)" if scale else "p = Softmax<axis=-1>(scores)"
    return f"scores = MatMul({query}, {keys}) {scaled} o = MatMul(p, {values})"


def joined(perm: str = "0,2,1,3") -> str:
    return f"ot = Transpose<perm=[{perm}]>(o) flat = Reshape(ot, join) y = MatMul(flat, wo)"


PROJECTED = each("qkv", "@ = MatMul(x, w@)")
SPLIT = each("qkv", "@4 = Reshape(@, split)")


def branches(port: str, shape: str, then: str, otherwise: str) -> str:
    """A graph that gives y = a where c holds, else o; one list of nodes gives a, the other o."""
    bodies = f"then_branch = t () => ({shape} a) {{ {then} }}, else_branch = e () => ({shape} o) {{ {otherwise} }}"
    return f"g (bool c, {port}) => ({shape} y) {{ y = If (c) <{bodies}> }}"
