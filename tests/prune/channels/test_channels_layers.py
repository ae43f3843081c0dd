"""One case a rule: convolutions, dense layers, normalizations and what stands between them."""

from __future__ import annotations

import numpy as np
import pytest

from tests.helpers import noise
from tests.prune.channels.channel_case import Case, ints

IMAGE = (2, 3, 8, 8)
POSITIVE = np.abs(noise(8)) + 0.5

CASES = {
    "conv, batch normalization, conv": Case(
        """agraph (float[N,3,8,8] x) => (float[N,4,4,4] y) {
            a = Conv<strides=[2,2], pads=[1,1,1,1]>(x, w1, b1)
            n = BatchNormalization(a, scale, shift, mean, variance)  r = Relu(n)  y = Conv<pads=[1,1,1,1]>(r, w2, b2)
        }""",
        {
            "w1": (8, 3, 3, 3),
            "b1": (8,),
            "scale": (8,),
            "shift": (8,),
            "mean": (8,),
            "variance": POSITIVE,
            "w2": (4, 8, 3, 3),
            "b2": (4,),
        },
        {"x": IMAGE},
        [("Conv_a", 8)],
        protected={"Conv_y": "they are the output 'y'"},
    ),
    "residual sum": Case(
        """agraph (float[N,3,8,8] x) => (float[N,4,8,8] y) {
            a = Conv(x, w1)  b = Conv<pads=[1,1,1,1]>(a, w2)  r = Relu(b)  c = Conv(r, w3)  s = Sum(a, c)
            y = Conv(s, w4) }""",
        {"w1": (8, 3, 1, 1), "w2": (6, 8, 3, 3), "w3": (8, 6, 1, 1), "w4": (4, 8, 1, 1)},
        {"x": IMAGE},
        [("Conv_a", 8), ("Conv_b", 6)],
    ),
    "concatenation, then a scale over all": Case(
        """agraph (float[N,3,8,8] x) => (float[N,4,8,8] y) {
            a = Conv(x, w1)  b = Conv(x, w2)  c = Concat<axis=1>(a, b, x)  m = Mul(c, s)  p = PRelu(m, slope)
            y = Conv(p, w3) }""",
        {"w1": (8, 3, 1, 1), "w2": (6, 3, 1, 1), "s": (1, 17, 1, 1), "slope": (17, 1, 1), "w3": (4, 17, 1, 1)},
        {"x": IMAGE},
        [("Conv_a", 8), ("Conv_b", 6)],
    ),
    "depthwise with a multiplier": Case(
        """agraph (float[N,3,8,8] x) => (float[N,4,8,8] y) {
            a = Conv(x, w1)  d = Conv<group=8, pads=[1,1,1,1]>(a, w2, b2)  y = Conv(d, w3) }""",
        {"w1": (8, 3, 1, 1), "w2": (16, 1, 3, 3), "b2": (16,), "w3": (4, 16, 1, 1)},
        {"x": IMAGE},
        [("Conv_a", 8)],
    ),
    "grouped convolution": Case(
        """agraph (float[N,3,8,8] x) => (float[N,4,8,8] y) {
            a = Conv(x, w1)  g = Conv<group=2, pads=[1,1,1,1]>(a, w2, b2)  y = Conv(g, w3) }""",
        {"w1": (8, 3, 1, 1), "w2": (12, 4, 3, 3), "b2": (12,), "w3": (4, 12, 1, 1)},
        {"x": IMAGE},
        [("Conv_a", 4), ("Conv_g", 6)],
    ),
    "channel shuffle between grouped convolutions": Case(
        """agraph (float[N,3,4,4] x) => (float[N,4,4,4] y) {
            a = Conv(x, w1)  g = Conv<group=2>(a, w2)  r = Reshape(g, split)  t = Transpose<perm=[0,2,1,3,4]>(r)
            f = Reshape(t, flat)  d = Conv<group=16, pads=[1,1,1,1]>(f, w3)  h = Conv<group=2>(d, w4)
            y = Conv(h, w5) }""",
        {
            "w1": (12, 3, 1, 1),
            "w2": (16, 6, 1, 1),
            "split": ints(-1, 2, 8, 4, 4),
            "flat": ints(-1, 16, 4, 4),
            "w3": (16, 1, 3, 3),
            "w4": (12, 8, 1, 1),
            "w5": (4, 12, 1, 1),
        },
        {"x": (2, 3, 4, 4)},
        [("Conv_a", 6), ("Conv_g", 4), ("Conv_h", 6)],
    ),
    "channels that straddle the groups of a convolution": Case(
        """agraph (float[N,3,4,4] x) => (float[N,4,4,4] y) {
            a = Conv(x, w1)  c = Concat<axis=1>(a, a)  g = Conv<group=3>(c, w2)  y = Conv(g, w3) }""",
        {"w1": (6, 3, 1, 1), "w2": (12, 4, 1, 1), "w3": (4, 12, 1, 1)},
        {"x": (2, 3, 4, 4)},
        [("Conv_a", 2), ("Conv_g", 4)],  # 0 and 1 are in groups 0 and 1, 2 and 3 in 0 and 2, 4 and 5 in 1 and 2
    ),
    "ShuffleNet: widths that begin at other channels, concatenated and added": Case(
        """agraph (float[N,3,4,4] x) => (float[N,4,2,2] y) {
            a = Conv(x, w1)  p = AveragePool<kernel_shape=[2,2], strides=[2,2]>(a)  b = Conv<strides=[2,2]>(a, w2)
            e = Conv<group=4>(b, w3)  c = Concat<axis=1>(p, e)  g = Conv<group=4>(c, w4)  r = Reshape(g, split)
            t = Transpose<perm=[0,2,1,3,4]>(r)  f = Reshape(t, flat)  d = Conv<group=16, pads=[1,1,1,1]>(f, w5)
            h = Conv<group=4>(d, w6)  s = Add(c, h)  y = Conv(s, w7) }""",
        {
            "w1": (8, 3, 1, 1),
            "w2": (8, 8, 1, 1),
            "w3": (24, 2, 1, 1),
            "w4": (16, 8, 1, 1),
            "split": ints(-1, 4, 4, 2, 2),
            "flat": ints(-1, 16, 2, 2),
            "w5": (16, 1, 3, 3),
            "w6": (32, 4, 1, 1),
            "w7": (4, 32, 1, 1),
        },
        {"x": (2, 3, 4, 4)},
        [("Conv_b", 2), ("Conv_a", 2)],
    ),
    "transposed convolutions": Case(
        """agraph (float[N,3,4,4] x) => (float[N,2,14,14] y) {
            a = ConvTranspose<strides=[2,2]>(x, w1, b1)  d = ConvTranspose<group=8>(a, w2)
            g = ConvTranspose<group=2>(d, w3)  y = ConvTranspose(g, w4) }""",
        {"w1": (3, 8, 2, 2), "b1": (8,), "w2": (8, 1, 3, 3), "w3": (8, 3, 3, 3), "w4": (6, 2, 3, 3)},
        {"x": (2, 3, 4, 4)},
        [("ConvTranspose_a", 4), ("ConvTranspose_g", 3)],
    ),
    "flattened blocks of a dense layer": Case(
        """agraph (float[N,3,4,4] x) => (float[N,5] y) {
            a = Conv(x, w1)  f = Flatten(a)  h = Gemm<transB=1>(f, w2, b2)  r = Relu(h)  y = Gemm(r, w3) }""",
        {"w1": (6, 3, 2, 2), "w2": (8, 54), "b2": (8,), "w3": (8, 5)},
        {"x": (2, 3, 4, 4)},
        [("Conv_a", 6), ("Gemm_h", 8)],
    ),
    "global pool and a reshape to a written width": Case(
        """agraph (float[1,3,4,4] x) => (float[1,5] y) {
            a = Conv(x, w1)  p = GlobalAveragePool(a)  f = Reshape(p, target)  y = Gemm(f, w2) }""",
        {"w1": (6, 3, 2, 2), "target": ints(1, 6), "w2": (6, 5)},
        {"x": (1, 3, 4, 4)},
        [("Conv_a", 6)],
    ),
    "a reshape whose target is computed": Case(
        """agraph (float[N,3,4,4] x) => (float[N,5] y) {
            a = Conv(x, w1)  s = Shape(x)  n = Gather(s, zero)  u = Unsqueeze(n, axis)  t = Concat<axis=0>(u, width)
            f = Reshape(a, t)  y = Gemm(f, w2) }""",
        {"w1": (6, 3, 2, 2), "zero": np.array(0), "axis": ints(0), "width": ints(54), "w2": (54, 5)},
        {"x": (2, 3, 4, 4)},
        [("Conv_a", 6)],
    ),
    "a reshape whose target is computed in another type": Case(
        """agraph (float[N,3,4,4] x) => (float[N,5] y) {
            a = Conv(x, w1)  s = Shape(x)  s4 = Cast<to=6>(s)  n = Slice(s4, zero, one)  t = Concat<axis=0>(n, width)
            t8 = Cast<to=7>(t)  f = Reshape(a, t8)  y = Gemm(f, w2) }""",
        {
            "w1": (6, 3, 2, 2),
            "zero": ints(0),
            "one": ints(1),
            "width": np.array([54], np.int32),
            "w2": (54, 5),
        },
        {"x": (2, 3, 4, 4)},
        [("Conv_a", 6)],
    ),
    "squeeze and excitation": Case(
        """agraph (float[N,3,8,8] x) => (float[N,4,8,8] y) {
            a = Conv(x, w1)  m = ReduceMean<axes=[2,3]>(a)  q = Conv(m, w2)  r = Relu(q)  e = Conv(r, w3)
            s = Sigmoid(e)  p = Mul(a, s)  y = Conv(p, w4) }""",
        {"w1": (8, 3, 1, 1), "w2": (4, 8, 1, 1), "w3": (8, 4, 1, 1), "w4": (4, 8, 1, 1)},
        {"x": IMAGE},
        [("Conv_a", 8), ("Conv_q", 4)],
    ),
    "split in two equal parts": Case(
        """agraph (float[N,6] x) => (float[N,3] y) {
            h = Gemm(x, w1)  a, b = Split<axis=1, num_outputs=2>(h)  s = Sigmoid(b)  g = Mul(a, s)  y = Gemm(g, w2)
        }""",
        {"w1": (6, 16), "w2": (8, 3)},
        {"x": (4, 6)},
        [("Gemm_h", 8)],
        opset=18,
    ),
    "split in two parts, by attribute": Case(
        """agraph (float[N,6] x) => (float[N,3] y) {
            h = Gemm(x, w1)  a, b = Split<axis=1, split=[8,8]>(h)  s = Add(a, b)  y = Gemm(s, w2) }""",
        {"w1": (6, 16), "w2": (8, 3)},
        {"x": (4, 6)},
        [("Gemm_h", 8)],
        opset=11,
    ),
    "split in three unequal parts of which two meet": Case(
        """agraph (float[N,6] x) => (float[N,3] y) {
            h = Gemm(x, w1)  a, b, c = Split<axis=1>(h, sizes)  s = Add(a, c)  t = Concat<axis=1>(s, b)
            y = Gemm(t, w2) }""",
        {"w1": (6, 15), "sizes": ints(6, 3, 6), "w2": (9, 3)},
        {"x": (4, 6)},
        [("Gemm_h", 3), ("Gemm_h", 6)],
    ),
    "slices that meet again": Case(
        """agraph (float[N,6] x) => (float[N,3] y) {
            h = Gemm(x, w1)  a = Slice(h, zero, eight, one)  b = Slice(h, minus, end, one)  s = Mul(a, b)
            y = Gemm(s, w2) }""",
        {
            "w1": (6, 16),
            "zero": ints(0),
            "eight": ints(8),
            "one": ints(1),
            "minus": ints(-8),
            "end": ints(2**62),
            "w2": (8, 3),
        },
        {"x": (4, 6)},
        [("Gemm_h", 8)],
    ),
    "layer normalization between dense layers": Case(
        """agraph (float[N,S,6] x) => (float[N,S,3] y) {
            h = MatMul(x, w1)  a = Add(h, b1)  n = LayerNormalization(a, scale, shift)  y = MatMul(n, w2) }""",
        {"w1": (6, 8), "b1": (8,), "scale": (8,), "shift": (8,), "w2": (8, 3)},
        {"x": (2, 5, 6)},
        [("MatMul_h", 8)],
    ),
    "layer normalization in pieces": Case(
        """agraph (float[N,S,6] x) => (float[N,S,3] y) {
            h = MatMul(x, w1)  m = ReduceMean<axes=[-1]>(h)  d = Sub(h, m)  q = Pow(d, two)
            v = ReduceMean<axes=[-1]>(q)  e = Add(v, epsilon)  r = Sqrt(e)  n = Div(d, r)  s = Mul(n, scale)
            y = MatMul(s, w2) }""",
        {"w1": (6, 8), "two": np.float32(2), "epsilon": np.float32(1e-5), "scale": (8,), "w2": (8, 3)},
        {"x": (2, 5, 6)},
        [("MatMul_h", 8)],
    ),
    "group normalization": Case(
        """agraph (float[N,3,4,4] x) => (float[N,4,4,4] y) {
            a = Conv(x, w1)  n = GroupNormalization<num_groups=2>(a, scale, shift)  y = Conv(n, w2) }""",
        {"w1": (8, 3, 1, 1), "scale": (8,), "shift": (8,), "w2": (4, 8, 1, 1)},
        {"x": (2, 3, 4, 4)},
        [("Conv_a", 4)],
        opset=21,
    ),
    "instance normalization, activation, pools, padding and resizing": Case(
        """agraph (float[N,3,8,8] x) => (float[N,4,10,10] y) {
            a = Conv(x, w1)  n = InstanceNormalization(a, scale, shift)  l = LeakyRelu(n)
            m = MaxPool<kernel_shape=[2,2], strides=[2,2]>(l)  p = Pad(m, pads)  r = Resize(p, , scales)
            v = AveragePool<kernel_shape=[3,3]>(r)  y = Conv(v, w2) }""",
        {
            "w1": (8, 3, 1, 1),
            "scale": (8,),
            "shift": (8,),
            "pads": ints(0, 0, 1, 1, 0, 0, 1, 1),
            "scales": np.array([1, 1, 2, 2], np.float32),
            "w2": (4, 8, 1, 1),
        },
        {"x": IMAGE},
        [("Conv_a", 8)],
    ),
    "resizing to written sizes": Case(
        """agraph (float[1,3,8,8] x) => (float[1,4,16,16] y) {
            a = Conv(x, w1)  r = Resize(a, , , sizes)  y = Conv(r, w2) }""",
        {"w1": (8, 3, 1, 1), "sizes": ints(1, 8, 16, 16), "w2": (4, 8, 1, 1)},
        {"x": (1, 3, 8, 8)},
        [("Conv_a", 8)],
    ),
    "padding channels with zeros": Case(
        """agraph (float[N,3,4,4] x) => (float[N,4,4,4] y) {
            a = Conv(x, w1)  p = Pad(a, pads)  b = Conv(x, w2)  s = Add(p, b)  y = Conv(s, w3) }""",
        {"w1": (6, 3, 1, 1), "pads": ints(0, 1, 0, 0, 0, 1, 0, 0), "w2": (8, 3, 1, 1), "w3": (4, 8, 1, 1)},
        {"x": (2, 3, 4, 4)},
        [("Conv_a", 6)],
        protected={"Conv_b": "2 of 8 channels stay"},
    ),
    "depth to space and back": Case(
        """agraph (float[N,3,4,4] x) => (float[N,4,4,4] y) {
            a = Conv(x, w1)  d = DepthToSpace<blocksize=2>(a)  r = Relu(d)  s = SpaceToDepth<blocksize=2>(r)
            y = Conv(s, w2) }""",
        {"w1": (24, 3, 1, 1), "w2": (4, 24, 1, 1)},
        {"x": (2, 3, 4, 4)},
        [("Conv_a", 6)],
    ),
    "channels last": Case(
        """agraph (float[N,3,4,4] x) => (float[N,4,4,5] y) {
            a = Conv(x, w1)  t = Transpose<perm=[0,2,3,1]>(a)  h = MatMul(t, w2)  g = Gelu(h)  y = MatMul(g, w3) }""",
        {"w1": (6, 3, 1, 1), "w2": (6, 8), "w3": (8, 5)},
        {"x": (2, 3, 4, 4)},
        [("Conv_a", 6), ("MatMul_h", 8)],
        opset=20,
    ),
    "one dimension, squeezed and unsqueezed": Case(
        """agraph (float[N,6] x) => (float[N,3] y) {
            h = Gemm(x, w1)  u = Unsqueeze(h, axis)  c = Conv(u, w2)  q = Squeeze(c, axis)  y = Gemm(q, w3) }""",
        {"w1": (6, 8), "axis": ints(2), "w2": (10, 8, 1), "w3": (10, 3)},
        {"x": (4, 6)},
        [("Gemm_h", 8), ("Conv_c", 10)],
    ),
    "embeddings": Case(
        """agraph (int64[N,S] tokens) => (float[N,S,3] y) {
            e = Gather(table, tokens)  p = Add(e, position)  h = MatMul(p, w1)  y = MatMul(h, w2) }""",
        {"table": (20, 8), "position": (1, 5, 8), "w1": (8, 6), "w2": (6, 3)},
        {"tokens": np.arange(10).reshape(2, 5)},
        [("Gather_e", 8), ("MatMul_h", 6)],
    ),
    "sums over channels": Case(
        """agraph (int64[N] user, int64[N] item) => (float[N] y) {
            a = Gather(users, user)  b = Gather(items, item)  m = Mul(a, b)  y = ReduceSum<keepdims=0>(m, axis) }""",
        {"users": (9, 8), "items": (7, 8), "axis": ints(1)},
        {"user": np.arange(4), "item": np.arange(4)},
        [("Gather_a", 8)],
    ),
    "weights on the left, in batches, and through other operators": Case(
        """agraph (float[2,6,5] x) => (float[2,3,5] y) {
            t = Transpose<perm=[1,0]>(w1)  h = MatMul(t, x)  b = MatMul(w2, h)  y = MatMul(w3, b) }""",
        {"w1": (6, 8), "w2": (2, 7, 8), "w3": (3, 7)},
        {"x": (2, 6, 5)},
        [("MatMul_h", 8), ("MatMul_b", 7)],
    ),
    "einsum": Case(
        """agraph (float[N,S,6] x) => (float[N,S,3] y) {
            h = Einsum<equation="bsi,io->bso">(x, w1)
            y = Einsum<equation="bsi,oi->bso">(h, w2)
        }""",
        {"w1": (6, 8), "w2": (3, 8)},
        {"x": (2, 5, 6)},
        [("Einsum_h", 8)],
    ),
    "tiled channels": Case(
        """agraph (float[N,6] x) => (float[N,3] y) {
            h = Gemm(x, w1)  t = Tile(h, repeats)  y = Gemm(t, w2) }""",
        {"w1": (6, 8), "repeats": ints(1, 2), "w2": (16, 3)},
        {"x": (4, 6)},
        [("Gemm_h", 8)],
    ),
    "a constant expanded to the channels": Case(
        """agraph (float[N,6] x) => (float[N,3] y) {
            h = Gemm(x, w1)  s = Shape(h)  o = ConstantOfShape(s)  e = Expand(half, s)  m = Mul(h, e)  a = Add(m, o)
            y = Gemm(a, w2) }""",
        {"w1": (6, 8), "half": np.full((1, 1), 0.5, np.float32), "w2": (8, 3)},
        {"x": (4, 6)},
        [("Gemm_h", 8)],
    ),
    "a weight that two operators share": Case(
        """agraph (float[N,6] x) => (float[N,3] y) {
            a = Gemm(x, w1)  b = Gemm(a, w2)  c = Gemm(b, w2)  y = Gemm(c, w3) }""",
        {"w1": (6, 8), "w2": (8, 8), "w3": (8, 3)},
        {"x": (4, 6)},
        [("Gemm_a", 8)],
    ),
    "a bias that two layers share only in value": Case(
        """agraph (float[N,6] x) => (float[N,3] y) {
            a = Gemm(x, w1, b)  c = Gemm(a, w2, b)  y = Gemm(c, w3) }""",
        {"w1": (6, 8), "b": (8,), "w2": (8, 8), "w3": (8, 3)},
        {"x": (4, 6)},
        [("Gemm_a", 8), ("Gemm_c", 8)],
    ),
    "recurrent layers": Case(
        """agraph (float[S,N,6] x) => (float[S,1,N,3] y) {
            a, ah, ac = LSTM<hidden_size=8>(x, w1, r1, b1)  q = Squeeze(a, axis)  g = GRU<hidden_size=7>(q, w2, r2)
            y = MatMul(g, w3) }""",
        {
            "w1": (1, 32, 6),
            "r1": (1, 32, 8),
            "b1": (1, 64),
            "axis": ints(1),
            "w2": (1, 21, 8),
            "r2": (1, 21, 7),
            "w3": (7, 3),
        },
        {"x": (4, 2, 6)},
        [("LSTM_a", 8), ("GRU_g", 7)],
    ),
    "a state that starts at zero": Case(
        """agraph (float[S,N,6] x) => (float[S,1,N,3] y) {
            s = Shape(x)  n = Gather(s, one)  z = Concat<axis=0>(one, n, hidden)  o = ConstantOfShape(z)
            a, ah, ac = LSTM<hidden_size=8>(x, w1, r1, , , o, o)  y = MatMul(a, w2) }""",
        {"one": ints(1), "hidden": ints(8), "w1": (1, 32, 6), "r1": (1, 32, 8), "w2": (8, 3)},
        {"x": (4, 2, 6)},
        [("LSTM_a", 8)],
    ),
    "quantized per channel": Case(
        """agraph (float[N,3,8,8] x) => (float[N,4,8,8] y) {
            d1 = DequantizeLinear<axis=0>(q1, s1, z1)  a = Conv(x, d1)  u = QuantizeLinear(a, su, zu)
            v = DequantizeLinear(u, su, zu)  d2 = DequantizeLinear(q2, s2)  y = Conv(v, d2) }""",
        {
            "q1": np.arange(-12, 12, dtype=np.int8).reshape(8, 3, 1, 1),
            "s1": POSITIVE,
            "z1": np.zeros(8, np.int8),
            "su": np.float32(0.1),
            "zu": np.uint8(128),
            "q2": np.arange(-16, 16, dtype=np.int8).reshape(4, 8, 1, 1),
            "s2": np.float32(0.05),
        },
        {"x": IMAGE},
        [("Conv_a", 8)],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_rule(name: str) -> None:
    CASES[name].check()
