"""Progress: bars for people, silence for pipes."""

from __future__ import annotations

import io
import sys

import pytest

from cli.progress import Bars, watching


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_bars_pass_items_through_and_name_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = _Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    with watching(quiet=False) as progress:
        assert isinstance(progress, Bars)
        assert list(progress((n for n in range(3)), "counting", 3)) == [0, 1, 2]
    assert "counting" in screen.getvalue()


def test_a_bar_ends_with_the_work_even_if_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", _Terminal())
    with Bars() as bars:
        items = bars([1, 2], "work")
        next(items)
        assert len(bars._display.tasks) == 1
        items.close()
        assert not bars._display.tasks


@pytest.mark.parametrize("quiet", [False, True])
def test_silence(quiet: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", _Terminal() if quiet else io.StringIO())
    with watching(quiet=quiet) as progress:
        assert not isinstance(progress, Bars)
        assert list(progress([1], "work")) == [1]


def test_a_label_may_change_as_the_work_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", _Terminal())
    told = iter(["loss 3", "loss 2", "loss 1", "done"])
    with Bars() as bars:
        items = bars([1, 2, 3], lambda: next(told))
        seen = [bars._display.tasks[0].description for _ in items]
    assert seen == ["loss 3", "loss 2", "loss 1"]
