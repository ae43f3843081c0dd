"""Cases: matrix products, convolutions, pooling, normalization, resizing, quantization."""

from functools import partial

import numpy as np

from tests.autodiff.gradient_case import Array, Case, between, whole

MATMUL = [
    Case("y = MatMul(x, w)", x=(2, 3), w=(3, 4)),
    Case("y = MatMul(x, w)", x=(2, 2, 3), w=(3, 2)),
    Case("y = MatMul(x, w)", x=(2, 1, 2, 3), w=(3, 2)),
    Case("y = MatMul(x, a)", x=(2, 2, 3), a=(2, 3, 2)),
    Case("y = MatMul(x, a)", x=(2, 1, 2, 3), a=(2, 3, 2)),
    Case("y = MatMul(x, a)", x=(2, 3), a=(2, 3, 2)),
    Case("y = MatMul(x, a)", x=(1, 2, 3), a=(2, 3, 2)),
    Case("y = MatMul(x, w)", x=(2, 3), w=(2, 3, 2)),
    Case("y = MatMul(x, a)", x=(3,), a=(3,)),
    Case("y = MatMul(x, a)", x=(3,), a=(3, 2)),
    Case("y = MatMul(x, a)", x=(2, 3), a=(3,)),
    Case("y = MatMul(x, a)", x=(3,), a=(2, 3, 2)),
    Case("y = MatMul(x, a)", x=(2, 2, 3), a=(3,)),
    Case("t = Transpose<perm=[1,0]>(x); y = MatMul(x, t)", x=(2, 3)),
    *(
        Case(
            f"y = Gemm<transA={flip_a},transB={flip_b},alpha={alpha},beta=0.5>(x, w, b)",
            x=(3, 2) if flip_a else (2, 3),
            w=(4, 3) if flip_b else (3, 4),
            b=bias,
        )
        for flip_a, flip_b, alpha, bias in (
            (0, 0, 1.0, (4,)),
            (1, 0, 0.7, (2, 4)),
            (0, 1, 1.0, (1,)),
            (1, 1, 1.5, (2, 1)),
        )
    ),
    Case("y = Gemm(x, w)", x=(2, 3), w=(3, 4)),
    Case("y = Gemm(x, w, b)", x=(2, 3), w=(3, 4), b=(1, 4)),
    Case('y = Einsum<equation="ij,jk->ik">(x, a)', x=(2, 3), a=(3, 2)),
    Case('y = Einsum<equation="bhid,bhjd->bhij">(x, a)', x=(2, 1, 2, 3), a=(2, 1, 3, 3)),
    Case('y = Einsum<equation="...ij,...jk->...ik">(x, a)', x=(2, 2, 3), a=(2, 3, 2)),
    Case('y = Einsum<equation="...ij,...jk->...ik">(x, a)', x=(2, 2, 3), a=(1, 3, 2), free=False),
    Case('y = Einsum<equation="ij,jk">(x, a)', x=(2, 3), a=(3, 2)),
    Case('y = Einsum<equation="ij->j">(x)', x=(2, 3)),
    Case('y = Einsum<equation="ij,kj->i">(x, a)', x=(2, 3), a=(2, 3)),
    Case('y = Einsum<equation="i,j,k->kij">(x, a, c)', x=(2,), a=(3,), c=(2,)),
]

CONVOLUTION = [
    Case("y = Conv(x, w)", x=(2, 2, 4, 5), w=(3, 2, 2, 3)),
    Case("y = Conv(x, w, b)", x=(2, 2, 4, 4), w=(3, 2, 3, 3), b=(3,)),
    Case("y = Conv<pads=[1,1,1,1]>(x, w, b)", x=(1, 2, 3, 3), w=(2, 2, 3, 3), b=(2,)),
    Case("y = Conv<pads=[0,1,2,0]>(x, w)", x=(1, 2, 3, 3), w=(2, 2, 3, 2)),
    Case("y = Conv<strides=[2,2]>(x, w)", x=(2, 1, 5, 6), w=(2, 1, 2, 2)),
    Case("y = Conv<strides=[2,2],pads=[1,1,1,1]>(x, w)", x=(1, 1, 5, 6), w=(2, 1, 3, 3)),
    Case("y = Conv<strides=[3,2],pads=[1,0,1,0]>(x, w)", x=(1, 1, 7, 6), w=(2, 1, 2, 3)),
    Case("y = Conv<dilations=[2,1]>(x, w)", x=(1, 1, 6, 4), w=(2, 1, 3, 2)),
    Case("y = Conv<dilations=[2,2],strides=[2,1],pads=[1,2,1,2]>(x, w)", x=(1, 1, 6, 4), w=(1, 1, 2, 3)),
    Case("y = Conv<group=2>(x, w, b)", x=(2, 4, 3, 3), w=(4, 2, 2, 2), b=(4,)),
    Case("y = Conv<group=3>(x, w)", x=(2, 3, 3, 4), w=(3, 1, 2, 2)),
    Case("y = Conv<group=2,pads=[1,1,1,1],strides=[2,2]>(x, w)", x=(2, 2, 4, 5), w=(4, 1, 3, 3)),
    Case("y = Conv<group=2,dilations=[2,2]>(x, w)", x=(1, 2, 4, 4), w=(2, 1, 2, 2)),
    Case("y = Conv(x, w)", x=(3, 4, 2, 2), w=(2, 4, 1, 1)),
    Case("y = Conv<strides=[2,2]>(x, w)", x=(2, 2, 3, 4), w=(2, 2, 1, 1)),
    Case('y = Conv<auto_pad="SAME_UPPER">(x, w)', x=(1, 1, 3, 4), w=(2, 1, 2, 3)),
    Case('y = Conv<auto_pad="SAME_LOWER">(x, w)', x=(1, 1, 3, 4), w=(2, 1, 2, 3)),
    Case(  # linear: onnx's evaluator pads as it should since 1.23 only
        'y = Conv<auto_pad="SAME_UPPER",strides=[2,2]>(x, w)', x=(1, 1, 5, 4), w=(2, 1, 2, 3), free=False, linear=True
    ),
    Case('y = Conv<auto_pad="VALID",strides=[2,1]>(x, w)', x=(1, 1, 5, 4), w=(2, 1, 2, 3), linear=True),
    Case("y = Conv(x, w, b)", x=(2, 2, 5), w=(3, 2, 3), b=(3,)),
    Case("y = Conv<strides=[2],pads=[1,1]>(x, w)", x=(2, 2, 6), w=(3, 2, 3)),
    Case("y = Conv<group=2,dilations=[2]>(x, w)", x=(2, 2, 6), w=(2, 1, 3)),
    Case("y = Conv(x, w)", x=(1, 1, 3, 3, 2), w=(2, 1, 2, 2, 2)),
    Case("y = Conv<pads=[1,1,1,1],strides=[2,2]>(x, w)", x=(1, 1, 34, 33), w=(2, 1, 3, 2), linear=True),
    Case("y = ConvTranspose(x, w, b)", x=(2, 2, 2, 3), w=(2, 3, 2, 2), b=(3,)),
    Case("y = ConvTranspose<strides=[2,2]>(x, w, b)", x=(1, 2, 2, 3), w=(2, 2, 2, 2), b=(2,)),
    Case("y = ConvTranspose<strides=[2,2],pads=[1,1,1,1],output_padding=[1,1]>(x, w)", x=(1, 1, 3, 3), w=(1, 2, 3, 3)),
    Case("y = ConvTranspose<group=2>(x, w)", x=(1, 2, 3, 3), w=(2, 2, 2, 2), linear=True),
    Case("y = ConvTranspose<strides=[2,2],group=2>(x, w)", x=(1, 4, 2, 2), w=(4, 1, 2, 2), linear=True),
    Case("y = ConvTranspose<strides=[2,1],group=2>(x, w)", x=(2, 2, 2, 2), w=(2, 1, 2, 2), linear=True),
    Case("y = ConvTranspose<dilations=[2,1]>(x, w)", x=(1, 1, 3, 3), w=(1, 2, 2, 2)),
    Case(
        "y = ConvTranspose<strides=[2,2],output_shape=[5,6]>(x, w)",
        x=(1, 1, 3, 3),
        w=(1, 1, 3, 3),
        free=False,
        linear=True,
    ),
    Case('y = ConvTranspose<strides=[2,2],auto_pad="SAME_UPPER">(x, w)', x=(1, 1, 3, 3), w=(1, 1, 3, 3), free=False),
    Case(
        'y = ConvTranspose<strides=[2,2],auto_pad="SAME_LOWER">(x, w)',
        x=(1, 1, 3, 3),
        w=(1, 1, 3, 3),
        free=False,
        linear=True,
    ),
    Case("y = ConvTranspose<strides=[2],pads=[1,0]>(x, w, b)", x=(2, 2, 4), w=(2, 3, 3), b=(3,)),
]

POOLING = [
    Case("y = MaxPool<kernel_shape=[2,2],strides=[2,2]>(x)", x=(2, 2, 4, 4)),
    Case("y = MaxPool<kernel_shape=[3,3],strides=[2,2],pads=[1,1,1,1]>(x)", x=(1, 2, 5, 4)),
    Case("y = MaxPool<kernel_shape=[2,2]>(x)", x=(1, 2, 3, 4)),
    Case("y = MaxPool<kernel_shape=[2,2],strides=[2,2],ceil_mode=1>(x)", x=(1, 2, 3, 5)),
    Case("y = MaxPool<kernel_shape=[2,2],dilations=[2,1]>(x)", x=(1, 1, 4, 3)),
    Case("y = MaxPool<kernel_shape=[3],strides=[2]>(x)", x=(2, 2, 7)),
    Case('y = MaxPool<kernel_shape=[2,2],auto_pad="SAME_UPPER",strides=[2,2]>(x)', x=(1, 1, 3, 5)),
    Case("y = AveragePool<kernel_shape=[2,2],strides=[2,2]>(x)", x=(2, 2, 4, 4)),
    Case("y = AveragePool<kernel_shape=[3,2]>(x)", x=(1, 2, 4, 4)),
    Case("y = AveragePool<kernel_shape=[2,2],strides=[2,2]>(x)", x=(1, 2, 5, 4)),
    Case("y = AveragePool<kernel_shape=[3,3],strides=[2,2],pads=[1,1,1,1]>(x)", x=(1, 1, 5, 4), free=False),
    Case("y = AveragePool<kernel_shape=[3,3],pads=[1,1,1,1],count_include_pad=1>(x)", x=(1, 2, 3, 4)),
    Case("y = AveragePool<kernel_shape=[2,2],strides=[2,2],ceil_mode=1>(x)", x=(1, 1, 3, 5), free=False, opset=19),
    Case("y = AveragePool<kernel_shape=[3],strides=[2]>(x)", x=(2, 2, 7)),
    Case('y = AveragePool<kernel_shape=[2,2],auto_pad="SAME_UPPER">(x)', x=(1, 1, 3, 3), free=False),
    Case("y = AveragePool<kernel_shape=[2,2],dilations=[2,2]>(x)", x=(1, 1, 4, 4), opset=19),
    Case("y = LpPool<kernel_shape=[2,2],strides=[2,2]>(x)", x=between(0.3, 2, 1, 2, 4, 4)),
    Case("y = LpPool<kernel_shape=[2,2],p=3>(x)", x=between(0.3, 2, 1, 1, 3, 4)),
    Case("y = GlobalAveragePool(x)", x=(2, 2, 2, 3)),
    Case("y = GlobalAveragePool(x)", x=(2, 2, 3)),
    Case("y = GlobalMaxPool(x)", x=(2, 2, 2, 3)),
    Case("y = GlobalLpPool(x)", x=(2, 2, 2, 3), forward=lambda x: np.sqrt((x**2).sum((2, 3), keepdims=True))),
    Case(
        "y = GlobalLpPool<p=3>(x)", x=(1, 2, 2, 2), forward=lambda x: np.cbrt((abs(x) ** 3).sum((2, 3), keepdims=True))
    ),
]

STATISTICS = {"i": whole(1, -2), "j": whole(2, 3)}
FROZEN = "m = Cast<to=1>(i); v = Cast<to=1>(j); y = BatchNormalization(x, s, b, m, v)"
TRAINING = "m = Cast<to=1>(i); v = Cast<to=1>(j); y, rm, rv = BatchNormalization<training_mode=1>(x, s, b, m, v)"


def in_groups(x: Array, s: Array, b: Array) -> Array:
    """Group normalization with two groups, by its definition; scale and bias a group or a channel."""
    rows = x.reshape(len(x), 2, -1)
    z = (rows - rows.mean(2, keepdims=True)) / np.sqrt(rows.var(2, keepdims=True) + 1e-5)
    scale, bias = (np.repeat(each, x.shape[1] // len(each))[:, None, None] for each in (s, b))
    return z.reshape(x.shape) * scale + bias


def across_channels(x: Array, size: int, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0) -> Array:
    """Local response normalization, by its definition."""
    reach = size // 2
    near = [np.square(x[:, max(0, c - reach) : c + reach + 1]).sum(1) for c in range(x.shape[1])]
    return x / (bias + alpha / size * np.stack(near, 1)) ** beta


NORMALIZATION = [
    Case(FROZEN, x=(3, 2, 2), s=(2,), b=(2,), **STATISTICS),
    Case(FROZEN, x=(1, 2, 3, 2), s=(2,), b=(2,), **STATISTICS),
    Case(FROZEN.replace("n(", "n<epsilon=0.5>("), x=(3, 2), s=(2,), b=(2,), **STATISTICS),
    Case(
        "m = ReduceMean<keepdims=0>(x, n); q = Mul(x, x); r = ReduceMean<keepdims=0>(q, n); t = Mul(m, m);"
        "v = Sub(r, t); y = BatchNormalization(x, s, b, m, v)",
        x=(1, 2, 4),
        n=whole(0, 2),
        s=(2,),
        b=(2,),
    ),
    Case("v = Mul(w, w); y = BatchNormalization(x, s, b, w, v)", x=(2, 2, 3), s=(2,), b=(2,), w=(2,)),
    Case(TRAINING, x=(3, 2, 2), s=(2,), b=(2,), **STATISTICS),
    Case(TRAINING, x=(2, 2, 2, 3), s=(2,), b=(2,), **STATISTICS),
    Case("y = LayerNormalization(x, s, b)", x=(2, 3, 4), s=(4,), b=(4,)),
    Case("y = LayerNormalization(x, s)", x=(3, 4), s=(4,)),
    Case("y = LayerNormalization<axis=1,epsilon=0.1>(x, s, b)", x=(2, 2, 3), s=(2, 3), b=(2, 3)),
    Case("y = LayerNormalization<axis=-2>(x, s)", x=(2, 2, 3), s=(2, 3)),
    Case("y = RMSNormalization(x, s)", x=(2, 3, 4), s=(4,), opset=23),
    Case("y = InstanceNormalization(x, s, b)", x=(2, 2, 2, 3), s=(2,), b=(2,)),
    Case("y = InstanceNormalization<epsilon=0.1>(x, s, b)", x=(2, 3, 4), s=(3,), b=(3,)),
    Case("y = GroupNormalization<num_groups=2>(x, s, b)", x=(2, 4, 2, 2), s=(2,), b=(2,), forward=in_groups),
    Case("y = GroupNormalization<num_groups=2>(x, s, b)", x=(2, 4, 2, 2), s=(4,), b=(4,), opset=21, forward=in_groups),
    Case("y = LpNormalization(x)", x=(2, 3)),
    Case("y = LpNormalization<axis=0,p=1>(x)", x=(2, 3), forward=lambda x: x / abs(x).sum(0)),
    Case("y = LRN<size=3>(x)", x=(1, 4, 2, 2), free=False, forward=partial(across_channels, size=3)),
    Case(
        "y = LRN<size=3,alpha=0.5,beta=0.6,bias=2.0>(x)",
        x=(2, 4, 2, 1),
        free=False,
        forward=partial(across_channels, size=3, alpha=0.5, beta=0.6, bias=2.0),
    ),
    Case(
        "y = LRN<size=5,alpha=0.9>(x)", x=(1, 4, 2, 2), free=False, forward=partial(across_channels, size=5, alpha=0.9)
    ),
    Case(
        "u = ReduceMean(x, n); d = Sub(x, u); q = Mul(d, d); v = ReduceMean(q, n); r = Add(v, e);"
        "t = Sqrt(r); z = Div(d, t); p = Mul(z, s); y = Add(p, b)",
        x=(2, 3, 4),
        n=whole(-1),
        e=np.array(1.0),
        s=(4,),
        b=(4,),
    ),
]

MODES = [
    ("nearest", "asymmetric", "floor"),
    ("nearest", "half_pixel", "round_prefer_floor"),
    ("nearest", "asymmetric", "ceil"),
    ("linear", "half_pixel", "floor"),
    ("linear", "align_corners", "floor"),
    ("linear", "asymmetric", "floor"),
    ("linear", "pytorch_half_pixel", "floor"),
    ("cubic", "half_pixel", "floor"),
]
RESIZE = [
    Case(
        "k = Cast<to=1>(i); y = Resize"
        f'<mode="{mode}",coordinate_transformation_mode="{where}",nearest_mode="{which}">(x, , k)',
        x=(1, 2, 2, 3),
        i=whole(1, 1, 2, 3),
        free=mode == "nearest" and which != "ceil",
        linear=True,
    )
    for mode, where, which in MODES
] + [
    Case('y = Resize<mode="linear">(x, , , n)', x=(1, 2, 4, 3), n=whole(1, 2, 3, 5), free=False, linear=True),
    Case('y = Resize<mode="nearest">(x, , , n)', x=(1, 1, 4, 3), n=whole(1, 1, 2, 5), free=False, linear=True),
    Case('y = Resize<mode="linear",axes=[2,3]>(x, , , n)', x=(1, 1, 3, 3), n=whole(2, 5), free=False, linear=True),
    Case(
        'y = Resize<mode="linear",antialias=1>(x, , , n)', x=(1, 1, 6, 4), n=whole(1, 1, 3, 4), free=False, linear=True
    ),
    Case('y = Resize<mode="linear">(x, , , n)', x=(1, 3), n=whole(1, 5), free=False, linear=True),
]

CASES = [*MATMUL, *CONVOLUTION, *POOLING, *NORMALIZATION, *RESIZE]
