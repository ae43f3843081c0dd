"""Cases: operators that move, cut, copy, take and put elements."""

import numpy as np

from tests.autodiff.gradient_case import Case, whole

SHAPE = [
    Case("y = Reshape(x, n)", x=(2, 3), n=whole(3, -1)),
    Case("y = Reshape(x, n)", x=(2, 3, 2), n=whole(0, -1)),
    Case("y = Flatten(x)", x=(2, 3, 2)),
    Case("y = Flatten<axis=2>(x)", x=(2, 3, 2)),
    Case("y = Squeeze(x, n)", x=(2, 1, 3, 1), n=whole(1, 3)),
    Case("y = Squeeze(x)", x=(2, 1, 3), free=False),
    Case("y = Unsqueeze(x, n)", x=(2, 3), n=whole(0, -1)),
    Case("y = Transpose(x)", x=(2, 3, 2)),
    Case("y = Transpose<perm=[1,2,0]>(x)", x=(2, 3, 2)),
    Case("y = Concat<axis=1>(x, a, w)", x=(2, 3), a=(2, 1), w=(2, 2)),
    Case("y = Concat<axis=-1>(x, x)", x=(2, 3)),
    Case("u, v = Split<axis=1>(x, n); w = Mul(u, u); y = Concat<axis=1>(v, w)", x=(2, 5), n=whole(2, 3)),
    Case("u, y = Split<num_outputs=2>(x)", x=(4, 2)),
    Case("y = Slice(x, p, q)", x=(4, 3), p=whole(1), q=whole(3)),
    Case("y = Slice(x, p, q, n)", x=(4, 3), p=whole(1, -2), q=whole(3, 2**40), n=whole(0, 1)),
    Case("y = Slice(x, p, q, n)", x=(4, 3), p=whole(-9), q=whole(-1), n=whole(1)),
    Case("y = Slice(x, p, q, n, t)", x=(5, 3), p=whole(0), q=whole(9), n=whole(0), t=whole(2), free=False),
    Case(
        "y = Slice(x, p, q, n, t)",
        x=(5, 4),
        p=whole(-1, 3),
        q=whole(-9, 0),
        n=whole(0, -1),
        t=whole(-1, -2),
        free=False,
    ),
    Case("y = Pad(x, n)", x=(2, 3), n=whole(1, 0, 0, 2)),
    Case("y = Pad(x, n, s)", x=(2, 3), n=whole(1, 0, 0, 2), s=np.array(0.5)),
    Case("y = Pad(x, n, , q)", x=(2, 3), n=whole(1, 2), q=whole(-1)),
    Case("y = Pad(x, n)", x=(2, 4), n=whole(0, -1, 1, -1), linear=True),
    Case('y = Pad<mode="reflect">(x, n)', x=(2, 4), n=whole(0, 2, 0, 1), free=False),
    Case('y = Pad<mode="edge">(x, n)', x=(2, 3), n=whole(1, 2, 0, 1), free=False),
    Case('y = Pad<mode="wrap">(x, n)', x=(2, 3), n=whole(1, 2, 0, 1), free=False, opset=19),
    Case("y = Expand(x, n)", x=(2, 1), n=whole(2, 3)),
    Case("y = Expand(x, n)", x=(3,), n=whole(2, 1, 3)),
    Case("y = Expand(x, n)", x=(2, 3), n=whole(1)),
    Case("y = Tile(x, n)", x=(2, 3), n=whole(2, 3)),
    Case("y = Tile(x, n)", x=(2, 1, 3), n=whole(1, 2, 1)),
    Case("y = Trilu(x)", x=(3, 3)),
    Case("y = Trilu<upper=0>(x, n)", x=(2, 3, 4), n=whole(1)[0]),
    Case("y = DepthToSpace<blocksize=2>(x)", x=(1, 8, 2, 1)),
    Case('y = DepthToSpace<blocksize=2,mode="CRD">(x)', x=(2, 8, 1, 2)),
    Case("y = SpaceToDepth<blocksize=2>(x)", x=(1, 2, 4, 2)),
    Case("y = ReverseSequence(x, n)", x=(4, 2), n=whole(3, 2)),
    Case("y = ReverseSequence<batch_axis=0,time_axis=1>(x, n)", x=(2, 4), n=whole(3, 2)),
]

INDEXING = [
    Case("y = Gather(w, n)", w=(4, 3), n=whole(2, 0)),
    Case("y = Gather(w, n)", w=(4, 3), n=whole([0, 2, 2], [1, 0, -1])),
    Case("y = Gather<axis=1>(x, n)", x=(2, 4, 2), n=whole(1)[0]),
    Case("y = Gather<axis=1>(x, n)", x=(2, 4, 2), n=whole(-1, 0)),
    Case("y = Gather<axis=1>(x, n)", x=(2, 4, 2), n=whole(3, 0, 3)),
    Case("y = Gather<axis=1>(x, n)", x=(2, 4, 2), n=whole([3, 0], [1, 3])),
    Case("y = Gather<axis=-1>(x, n)", x=(2, 3, 3), n=whole([2], [2])),
    Case("y = GatherElements<axis=1>(x, n)", x=(2, 3), n=whole([0, 0], [2, 1])),
    Case("y = GatherElements(x, n)", x=(3, 2), n=whole([0, 2], [-1, 1])),
    Case("y = GatherND(x, n)", x=(2, 3, 2), n=whole([0, 1], [1, 2], [0, 1])),
    Case("y = GatherND(x, n)", x=(2, 3), n=whole([1], [1])),
    Case("y = ScatterElements<axis=1>(x, n, w)", x=(2, 3), n=whole([0, 2], [1, 0]), w=(2, 2)),
    Case('y = ScatterElements<axis=0,reduction="add">(x, n, w)', x=(3, 2), n=whole([0, 2], [0, 1]), w=(2, 2)),
    Case("y = ScatterND(x, n, w)", x=(3, 2), n=whole([2], [0]), w=(2, 2)),
    Case('y = ScatterND<reduction="add">(x, n, w)', x=(3, 2), n=whole([2], [2]), w=(2, 2)),
    Case(
        "o = CastLike(v, x); t = OneHot(n, k, o); y = Mul(x, t)", x=(2, 3), n=whole(2, 0), k=whole(3)[0], v=whole(0, 1)
    ),
    Case("y, i = TopK(x, k)", x=(2, 4), k=whole(2)),
    Case("y, i = TopK<axis=0,largest=0>(x, k)", x=(4, 2), k=whole(2)),
]

CASES = [*SHAPE, *INDEXING]
