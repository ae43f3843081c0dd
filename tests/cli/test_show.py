"""Tables on a terminal, or in a pipe, which is 120 columns wide."""

from __future__ import annotations

import pytest

from cli.show import put_page
from compress_ops.report.page import Page, Table


def _shown(capsys: pytest.CaptureFixture[str], table: Table) -> list[str]:
    put_page(Page("", "", [table]))
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(("length", "beside"), [(90, True), (110, False)])
def test_intervals_stand_below_their_values_where_a_table_is_too_wide(
    capsys: pytest.CaptureFixture[str], length: int, beside: bool
) -> None:
    lines = _shown(capsys, Table("Latency", ["Model", "Time"], [["short", "1 ms"], ["m" * length, "2 ms [1, 3]"]]))
    assert any("2 ms [1, 3]" in line for line in lines) is beside
    assert any(line.strip() == "[1, 3]" for line in lines) is not beside


def test_a_table_without_rows_has_no_heads_of_columns(capsys: pytest.CaptureFixture[str]) -> None:
    lines = _shown(capsys, Table("Steps", ["Step", "Touched"], [], ["none ran"]))
    assert [line for line in lines if line] == ["Steps", "none ran"]
