"""Progress: bars for people, silence for pipes."""

from __future__ import annotations

import io
import sys

import pytest

from cli.progress import Bars, Lines, watching


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


@pytest.mark.parametrize("screen", [_Terminal(), io.StringIO()])
def test_silence(screen: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", screen)
    with watching(quiet=True) as progress:
        assert not isinstance(progress, Bars | Lines)
        assert list(progress([1], "work")) == [1]


def test_lines_in_a_pipe_come_every_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = io.StringIO()
    monkeypatch.setattr(sys, "stderr", pipe)
    monkeypatch.setattr("cli.progress.SECONDS_BETWEEN_LINES", 10)
    with watching(quiet=False) as progress:
        assert isinstance(progress, Lines)
        assert list(progress([1], "work")) == [1]
    assert pipe.getvalue() == ""  # it took less
    now = [100.0]
    lines = Lines(lambda: now[0])
    for _ in lines(range(2), "passes"):
        for _ in lines((n for n in range(4)), lambda: "scoring", 4):
            now[0] += 6
    assert pipe.getvalue().splitlines() == [
        "12 s: passes 0 of 2, scoring 2 of 4",
        "24 s: passes 0 of 2, scoring 4 of 4",
        "36 s: passes 1 of 2, scoring 2 of 4",
        "48 s: passes 1 of 2, scoring 4 of 4",
    ]


def test_a_line_says_when_a_stage_without_parts_took_long(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe, now = io.StringIO(), [0.0]
    monkeypatch.setattr(sys, "stderr", pipe)
    monkeypatch.setattr("cli.progress.SECONDS_BETWEEN_LINES", 10)
    lines = Lines(lambda: now[0])
    now[0] = 15
    assert list(lines((n for n in range(1)), "timing")) == [0]
    assert pipe.getvalue() == "15 s: timing 0\n"
    stopped = lines([1, 2], "work")
    next(stopped)
    stopped.close()
    now[0] += 20
    assert list(lines([0], "timing")) == [0]
    assert pipe.getvalue().splitlines()[1:] == ["35 s: timing 0 of 1"]  # nothing of the work that was stopped


def test_a_label_may_change_as_the_work_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", _Terminal())
    told = iter(["loss 3", "loss 2", "loss 1", "done"])
    with Bars() as bars:
        items = bars([1, 2, 3], lambda: next(told))
        seen = [bars._display.tasks[0].description for _ in items]
    assert seen == ["loss 3", "loss 2", "loss 1"]
