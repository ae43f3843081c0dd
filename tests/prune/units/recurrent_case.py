"""An LSTM with layers behind it, whose units are fed back."""

from __future__ import annotations

from tests.helpers import noise

RECURRENT = """agraph (float[5,N,6] x) => (float[5,1,N,3] y) {
    h, last = LSTM<hidden_size=8>(x, w, r)
    e = Einsum<equation="sdnh,hk->sdnk">(h, m)
    y = MatMul(e, out)
}"""
GATES = {"w": noise(1, 32, 6), "r": noise(1, 32, 8), "m": noise(8, 10), "out": noise(10, 3)}
