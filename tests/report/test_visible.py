"""Names of others are shown without obeying them."""

from __future__ import annotations

import unicodedata

import pytest

from compress_ops.report.visible import visible, without_commands


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é 日本", "plain é 日本"),
        ("a\nb\r\tc", r"a\nb\r\tc"),
        ("\x1b[31m\x9b1m", r"\x1b[31m\x9b1m"),
        ("\u202egnp.exe\u2066", r"\u202egnp.exe\u2066"),
        ("\u2028\u2029\u200b\ufeff\0", r"\u2028\u2029\u200b\ufeff\x00"),
        ("\udcff\U000e0001", r"\udcff\U000e0001"),
    ],
)
def test_visible(text: str, shown: str) -> None:
    assert visible(text) == shown
    assert visible(shown) == shown


def test_no_character_that_acts_gets_through() -> None:
    everything = "".join(map(chr, range(0x110000)))
    kinds = {unicodedata.category(character) for character in visible(everything)}
    assert kinds.isdisjoint({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
    assert visible("a\nb\t", keep="\n") == "a\nb\\t"


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("::error::x", r"\::error::x"),
        ("  ::add-mask::x", r"  \::add-mask::x"),
        ("ok\n\t::stop-commands::x", "ok\n\t\\::stop-commands::x"),
        ("a ##[error]b", r"a #\#[error]b"),
        ("std::vector a::b", "std::vector a::b"),
    ],
)
def test_commands_of_github(line: str, shown: str) -> None:
    assert without_commands(line) == shown
