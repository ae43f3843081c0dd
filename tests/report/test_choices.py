"""The tables of a search: models that were made, and what each layer became."""

from __future__ import annotations

from dataclasses import replace

from compress_ops.report.choices import LayerReport, PointReport, SearchReport, search_tables
from compress_ops.report.markdown import to_markdown
from compress_ops.report.page import Page

POINT = PointReport(
    name="3 int8 static, 1 float",
    bytes=250_000,
    closeness=0.99712,
    drop=None,
    speedup=2.104,
    expected_bytes=251_000,
    expected_noise=0.004,
    expected_speedup=2.0,
    meets=True,
    on_front=True,
    chosen=True,
)
OTHERS = [
    replace(POINT, name="2 int8 static", bytes=400_000, speedup=None, closeness=None, chosen=False),
    replace(POINT, name="1 int8 static", bytes=900_000, speedup=1.0, on_front=False, chosen=False),
]
LAYER = LayerReport("conv", "Conv", "int8 static", 400_000, 100_700, 0.0021, 0.0009, 0.00123, "saves 75% for all")
FOUND = SearchReport("bytes", [POINT, *OTHERS], [LAYER], ["4 codebook of 16: no"], 0.953, 0.75, ["Ask for more."])


def page(found: SearchReport, *, verbose: bool = False) -> str:
    return to_markdown(Page("Search", "Done.", search_tables(found, verbose=verbose)))


def rows(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]


def test_models_and_layers_read_so() -> None:
    models, layers = search_tables(FOUND, verbose=False)
    assert models.title == "Models made, in search of: bytes"
    assert [*map(list, models.rows)] == [
        ["3 int8 static, 1 float", "250 kB", "0.99712", "2.10x", "2.00x", "chosen"],
        ["2 int8 static", "400 kB", "-", "-", "2.00x", "front"],
        ["1 int8 static", "900 kB", "0.99712", "1.00x", "2.00x", ""],
    ]
    assert list(models.columns) == ["Layers", "Size", "Closeness", "Speed-up", "Expected", ""]
    assert list(models.notes) == [
        "Expected and measured loss: rank correlation 0.95; 75% of the times within 10 % of what was expected.",
        "4 codebook of 16: no",
        "Ask for more.",
    ]
    assert [*map(list, layers.rows)] == [
        ["conv", "int8 static", "400 kB -> 101 kB", "2.10 ms -> 900 µs", "0.0012", "saves 75% for all"]
    ]


def test_the_page_holds_them() -> None:
    text = page(FOUND)
    assert ["conv", "int8 static"] in [row[:2] for row in rows(text)]
    assert "Ask for more." in text


def test_drops_are_shown_where_there_are_any() -> None:
    models, _ = search_tables(replace(FOUND, points=[replace(POINT, drop=0.0123), *OTHERS]), verbose=False)
    assert "Drop" in models.columns
    assert [row[3] for row in models.rows] == ["1.23 %", "-", "-"]
    assert models.right_aligned()[3]


def test_of_many_layers_those_of_most_bytes_are_shown_unless_all_are_wanted() -> None:
    layers = [replace(LAYER, name=f"layer{i}", bytes_before=i * 1000) for i in range(50)]
    found = replace(FOUND, layers=layers)
    _, short = search_tables(found, verbose=False)
    assert [row[0] for row in short.rows] == [f"layer{i}" for i in range(49, 29, -1)]
    assert list(short.notes) == ["... and 30 smaller layers; --verbose shows all"]
    _, long = search_tables(found, verbose=True)
    assert [row[0] for row in long.rows] == [layer.name for layer in layers]
    assert not long.notes


def test_what_is_not_known_is_not_told() -> None:
    models, layers = search_tables(SearchReport("loss", [POINT], [], [], None, None, []), verbose=False)
    assert not models.notes
    assert not layers.rows
    models, _ = search_tables(replace(FOUND, rank_correlation=None, failed=[], hints=[]), verbose=False)
    assert list(models.notes) == ["75% of the times within 10 % of what was expected."]
    assert page(SearchReport("loss", [POINT], [], [], None, None, []))


def test_names_that_would_break_the_page_do_not() -> None:
    odd = replace(LAYER, name="a|b\n\x1b[31m")
    text = page(replace(FOUND, layers=[odd]))
    assert "\x1b" not in text
    assert len([row for row in rows(text) if row[-1] == "saves 75% for all"]) == 1
