"""Cases: arithmetic, functions of one tensor, activations, reductions, softmax."""

import math

import numpy as np

from tests.autodiff.gradient_case import Case, between, whole

SHAPE = (2, 3)
erf = np.vectorize(math.erf)
PLAIN = [
    "Neg",
    "Abs",
    "Exp",
    "Sin",
    "Cos",
    "Sinh",
    "Cosh",
    "Asinh",
    "Identity",
    "Atan",
    "Softplus",
    "Softsign",
    "Relu",
    "Sigmoid",
    "Tanh",
    "Mish",
]

ARITHMETIC = [
    Case("y = Add(a, b)", a=(2, 3), b=(2, 3)),
    Case("y = Add(a, b)", a=(2, 3), b=(3,)),
    Case("y = Add(a, c)", a=(2, 1, 3), c=(4, 1)),
    Case("y = Add(a, c)", a=(1,), c=(2, 3)),
    Case("y = Add(a, c)", a=(), c=(2, 3)),
    Case("y = Add(a, a)", a=(2, 3)),
    Case("y = Sum(a)", a=(2, 3)),
    Case("y = Sum(a, b, c)", a=(2, 3), b=(3,), c=(2, 1)),
    Case("y = Sub(a, b)", a=(2, 3), b=(3,)),
    Case("y = Sub(a, c)", a=(3,), c=(2, 3)),
    Case("y = Mul(a, b)", a=(2, 3), b=(2, 1)),
    Case("y = Mul(a, a)", a=(2, 3)),
    Case("y = Mul(a, c)", a=(4, 1), c=(2, 1, 3)),
    Case("y = Div(a, b)", a=(2, 3), b=between(0.5, 2, 3)),
    Case("y = Div(a, c)", a=(), c=between(-2, -0.5, 2, 3)),
    Case("y = Pow(a, two)", a=(2, 3), two=whole(2)),
    Case("y = Pow(a, three)", a=(2, 3), three=whole(3)[0]),
    Case("y = Pow(a, b)", a=between(0.3, 2, 2, 3), b=(3,)),
    Case("y = Pow(a, b)", a=between(0.3, 2, 2, 3), b=np.array(0.5)),
    Case("y = Mean(a, b)", a=(2, 3), b=(3,)),
    Case("y = Max(a, b)", a=(2, 3), b=(3,)),
    Case("y = Max(a, b, c)", a=(2, 3), b=(3,), c=(2, 1)),
    Case("y = Min(a, b)", a=(2, 3), b=()),
    Case("y = Mod<fmod=1>(a, b)", a=(2, 3), b=np.array(0.7)),
    Case("y = Where(q, a, b)", q=np.array([[True], [False]]), a=(2, 3), b=(3,)),
    Case("q = Greater(a, b); y = Where(q, a, b)", a=(2, 3), b=(3,)),
    Case("y = PRelu(a, s)", a=(2, 3, 2), s=(3, 1)),
    Case("y = PRelu(a, s)", a=(2, 3), s=()),
    Case("y = Clip(a, b, s)", a=(3, 4), b=np.array(-0.8), s=np.array(1.1)),
    Case("y = Clip(a, b)", a=(3, 4), b=np.array(-0.8)),
    Case("y = Clip(a, , s)", a=(3, 4), s=np.array(0.3)),
    Case("y = Clip(a)", a=(2, 2)),
]

FUNCTIONS = [
    *(Case(f"y = {name}(x)", x=SHAPE) for name in PLAIN),
    Case("y = Erf(x)", x=SHAPE, forward=erf),
    Case("y = Sqrt(x)", x=between(0.2, 2, 2, 3)),
    Case("y = Log(x)", x=between(0.2, 2, 2, 3)),
    Case("y = Reciprocal(x)", x=between(0.3, 2, 2, 3)),
    Case("y = Reciprocal(x)", x=between(-2, -0.3, 2, 3)),
    Case("y = Tan(x)", x=between(-1, 1, 2, 3)),
    Case("y = Asin(x)", x=between(-0.9, 0.9, 2, 3)),
    Case("y = Acos(x)", x=between(-0.9, 0.9, 2, 3)),
    Case("y = Acosh(x)", x=between(1.2, 3, 2, 3)),
    Case("y = Atanh(x)", x=between(-0.9, 0.9, 2, 3)),
    Case("z = Cast<to=11>(x); u = Mul(z, z); y = Cast<to=1>(u)", x=SHAPE, forward=np.square),
    Case(
        "h = Cast<to=11>(k); u = CastLike(x, h); v = Mul(u, u); y = Cast<to=1>(v)",
        x=SHAPE,
        k=whole(1),
        forward=np.square,
    ),
    Case("y = Dropout(x)", x=SHAPE),
]

ACTIVATIONS = [
    Case("y = LeakyRelu(x)", x=SHAPE),
    Case("y = LeakyRelu<alpha=0.3>(x)", x=SHAPE),
    Case("y = ThresholdedRelu<alpha=0.4>(x)", x=SHAPE),
    Case("y = HardSigmoid(x)", x=(2, 6)),
    Case("y = HardSigmoid<alpha=0.9,beta=0.4>(x)", x=(2, 6)),
    Case("y = HardSwish(x)", x=between(-5, 5, 2, 6), forward=lambda x: x * np.clip(x / 6 + 0.5, 0, 1)),
    Case("y = Elu(x)", x=SHAPE),
    Case("y = Elu<alpha=0.5>(x)", x=SHAPE),
    Case("y = Celu(x)", x=SHAPE),
    Case("y = Celu<alpha=2.5>(x)", x=SHAPE),
    Case("y = Selu(x)", x=SHAPE),
    Case("y = Selu<alpha=1.2,gamma=0.7>(x)", x=SHAPE),
    Case("y = Gelu(x)", x=SHAPE, opset=20, forward=lambda x: x * (1 + erf(x * math.sqrt(0.5))) / 2),
    Case('y = Gelu<approximate="tanh">(x)', x=SHAPE, opset=20),
    Case("y = Swish<alpha=1.5>(x)", x=SHAPE, opset=24),
    Case("y = Relu(x)", x=(2, 3, 2)),
    Case("s = Sigmoid(x); y = Mul(x, s)", x=SHAPE),
]

SOFTMAX = [
    Case(f"y = {name}{attribute}(x)", x=(2, 3, 2))
    for name in ("Softmax", "LogSoftmax")
    for attribute in ("", "<axis=1>", "<axis=0>", "<axis=-2>")
]

REDUCING = [
    "ReduceMax",
    "ReduceMin",
    "ReduceL1",
    "ReduceL2",
    "ReduceSumSquare",
    "ReduceLogSumExp",
    "ReduceProd",
    "ReduceLogSum",
]
REDUCTIONS = [
    *(
        Case(f"y = {name}<keepdims={keep}>(x, n)", x=between(0.3, 1.9, 2, 3, 2), n=whole(*axes))
        for name in ("ReduceSum", "ReduceMean", *REDUCING)
        for keep, axes in ((1, [1]), (0, [0, -1]))
    ),
    *(Case(f"y = {name}(x)", x=(2, 3)) for name in ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceL2", "ReduceL1")),
    Case("y = ReduceSum<keepdims=0>(x)", x=(2, 3)),
    Case("y = ReduceSum<noop_with_empty_axes=1>(x)", x=(2, 3)),
    Case("y = ReduceMean<keepdims=0>(x, n)", x=(2, 3), n=whole(-1)),
    Case("y = CumSum(x, n)", x=(2, 3), n=whole(1)[0]),
    Case("y = CumSum<exclusive=1>(x, n)", x=(2, 3), n=whole(0)[0]),
    Case("y = CumSum<reverse=1>(x, n)", x=(2, 3), n=whole(1)[0]),
    Case("y = CumSum<exclusive=1,reverse=1>(x, n)", x=(2, 3), n=whole(1)[0]),
]

CASES = [*ARITHMETIC, *FUNCTIONS, *ACTIVATIONS, *SOFTMAX, *REDUCTIONS]
