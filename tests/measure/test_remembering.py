"""A session that keeps what it gave: the same numbers, computed once, and no more of them than fit."""

from __future__ import annotations

import numpy as np
import pytest

from compress_ops.measure import remembering
from compress_ops.measure.remembering import Remembering
from compress_ops.runtime import Session, open_session
from tests.helpers import noise, proto_of

MODEL = proto_of("g (float[N,4] x) => (float[N,4] y, int64[2] s) { y = Sin(x)  s = Shape(y) }").SerializeToString()


@pytest.fixture
def runs(monkeypatch):
    """The feeds that really ran."""
    run, ran = Session.run, []

    def counting(self, feeds, outputs=None):
        ran.append(feeds)
        return run(self, feeds, outputs)

    monkeypatch.setattr(Session, "run", counting)
    return ran


def test_the_same_feed_runs_once_whatever_array_holds_it(runs):
    session, x = Remembering(open_session(MODEL)), noise(3, 4)
    first, again = session.run({"x": x}), session.run({"x": x.copy()})
    np.testing.assert_array_equal(first["y"], np.sin(x))
    assert len(runs) == 1 and first["y"] is again["y"] and list(again["s"]) == [3, 4]
    session.run({"x": x + 1})
    session.run({"x": x.reshape(-1, 4)[:2]})
    assert len(runs) == 3
    assert list(session.run({"x": x}, ["s"])) == ["s"] and len(runs) == 4  # of a part of the outputs nothing is kept


def test_what_is_kept_cannot_be_changed():
    found = Remembering(open_session(MODEL)).run({"x": noise(3, 4)})
    with pytest.raises(ValueError, match="read-only"):
        found["y"] += 1


def test_what_does_not_fit_is_computed_again(runs, monkeypatch):
    monkeypatch.setattr(remembering, "MOST_KEPT", 100)
    session = Remembering(open_session(MODEL))
    for _ in range(2):
        for x in (noise(3, 4), noise(4, 4)):  # of 64 and 80 bytes with the shape
            np.testing.assert_allclose(session.run({"x": x})["y"], np.sin(x), rtol=1e-6)
    assert len(runs) == 3
