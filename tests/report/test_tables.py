"""The report as text: a whole page against what it should read, and each judgement in words."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from compress_ops.measure.budget import Verdict
from compress_ops.measure.closeness.closeness import Closeness
from compress_ops.measure.closeness.fidelity import Fidelity, OutputFidelity
from compress_ops.measure.comparison import NOT_ASKED, Comparison, Feed
from compress_ops.measure.cost import Profile
from compress_ops.measure.environment import Environment
from compress_ops.measure.intervals import Interval
from compress_ops.measure.latency import NO_DIFFERENCE, LatencyResult, ModelLatency
from compress_ops.measure.metrics.accuracy import Accuracy
from compress_ops.measure.metrics.scores import Drop, MetricScores, Score
from compress_ops.measure.size import Size
from compress_ops.passes import Declined
from compress_ops.report import units
from compress_ops.report.html import to_html
from compress_ops.report.markdown import to_markdown
from compress_ops.report.page import Page, Table
from compress_ops.report.report import Report, StepReport
from compress_ops.report.tables import comparison_page, plan_page, report_page, worst_tables

ENVIRONMENT = Environment("cpu", 1, "Chip", ("avx2",), 2, None, "Linux", "3.11", "1.20", "0.1.0")


def _latency(median: float, speedup: float, low: float, high: float, verdict: str) -> ModelLatency:
    interval = Interval(low, high)
    times = {"median_seconds": median, "p90_seconds": median * 1.1, "p99_seconds": median * 1.5, "cpu_seconds": median}
    ratio = {"ratio": 1 / speedup, "ratio_interval": interval.inverse(), "speedup": speedup}
    return ModelLatency(
        **times, **ratio, speedup_interval=interval, with_copies_seconds=None, calls_per_timing=1, verdict=verdict
    )


REFERENCE = _latency(0.0045, 1, 1, 1, "reference")
FASTER = _latency(0.003, 1.5, 1.4, 1.6, "faster")


def _score(value: float, low: float, high: float, drop: Drop | None = None) -> Score:
    return Score(value, Interval(low, high), drop)


def _top1(drop: float, low: float, high: float) -> MetricScores:
    result = _score(0.983 - drop, 0.97, 0.99, Drop(drop, Interval(low, high), drop, Interval(low, high)))
    return MetricScores("higher", "wilson", {"original": _score(0.983, 0.971, 0.99), "result": result})


FIDELITY = OutputFidelity(
    elements=5400,
    identical=False,
    equal_share=0.0,
    cosine=0.9999,
    sqnr_db=41.25,
    max_difference=0.125,
    kl_divergence=0.00123,
    top1_agreement=0.998,
    not_finite=0,
    reference_not_finite=0,
    closeness=Closeness(mean=0.9999, worst=0.9998, moving=0.9996, kept=0.998),
)
COMPARISON = Comparison(
    models={"original": "m.onnx", "result": "s.onnx"},
    environment=ENVIRONMENT,
    size={
        "original": Size(1_230_000, 1_200_000, 1_100_000, 1_230_000),
        "result": Size(400_000, 350_000, 300_000, 400_000),
    },
    feed=Feed("test.npz", {"image": (1, 1, 8, 8), "rate": ()}),
    latency=LatencyResult(40, True, {"original": REFERENCE, "result": FASTER}),
    cost={"original": Profile(1_500_000, {"cpu": 11}, 0), "result": Profile(500_000, {"cpu": 9}, 0)},
    accuracy=Accuracy(540, "data/test.npz", {"top1": _top1(0.002, -0.003, 0.008)}),
    fidelity=Fidelity(540, {"result": {"scores": FIDELITY}}),
    fidelity_data="data/test.npz",
    peak_memory=150_000_000,
)
STEPS = [
    StepReport("simplify", "prepares", {}, {}, [], {}, 1_230_000, 1_230_000, 0.1, 0.1),
    StepReport(
        "prune_weights",
        "shrinks",
        {},
        {"a": "zeroed", "b": "zeroed"},
        [Declined("c", "too small"), Declined("d", "too small"), Declined("e", "shared")],
        {"sparsity": 0.5},
        1_230_000,
        400_000,
        2.5,
        4,
    ),
]
REPORT = Report(
    recipe={},
    folder=Path(),
    model=Path("models/m.onnx"),
    out=Path("out/s.onnx"),
    hashes={},
    steps=STEPS,
    bytes_before=1_230_000,
    bytes_after=400_000,
    comparison=COMPARISON,
    verdicts=[Verdict("max_size", "at most 50%", "400 kB (32.5%)", "met")],
    environment=ENVIRONMENT,
    seconds=12.34,
    cpu_seconds=20,
    peak_memory_bytes=160_000_000,
)

MARKDOWN = """\
## m.onnx -> s.onnx

**m.onnx -> s.onnx: 1.23 MB -> 400 kB (32.5 %); 1.50x faster [1.40, 1.60]; top1 98.3 % -> 98.1 % (no measurable drop); \
budget met.**

### Budget

| Limit | Wanted | Measured | Verdict |
| --- | --- | --- | --- |
| max_size | at most 50% | 400 kB (32.5%) | met |

### Steps

|  | Step | Touched | Declined | Before | After | Time | CPU | Notes |
| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |
| 1 | simplify | 0 | 0 | 1.23 MB | 1.23 MB | 100 ms | 100 ms |  |
| 2 | prune_weights | 2 | 3 | 1.23 MB | 400 kB | 2.50 s | 4.00 s | sparsity 0.5 |

### Size

| Model | File | Of original | Weights | With zstd |
| --- | ---: | ---: | ---: | ---: |
| original | 1.23 MB | 100.0 % | 1.20 MB | 1.10 MB |
| result | 400 kB | 32.5 % | 350 kB | 300 kB |

### Latency

| Model | Median | p90 | p99 | Speed-up | Verdict |
| --- | ---: | ---: | ---: | ---: | --- |
| original | 4.50 ms | 4.95 ms | 6.75 ms | - | reference |
| result | 3.00 ms | 3.30 ms | 4.50 ms | 1.50x [1.40, 1.60] | faster |

One inference: image 1x1x8x8, rate scalar (test.npz), on cpu with 1 thread.  
80 pairs of timings, models in turn; 95 % intervals.  

### Cost of one inference

| Model | CPU time | Bytes moved | Nodes run | Copies between providers |
| --- | ---: | ---: | --- | ---: |
| original | 4.50 ms | 1.50 MB | 11 on cpu | 0 |
| result | 3.00 ms | 500 kB | 9 on cpu | 0 |

### Accuracy

| Model | top1 |
| --- | ---: |
| original | 98.3 % [97.1, 99.0] |
| result | 98.1 % [97.0, 99.0] |

540 samples of test.npz; 95 % intervals.  

### Drop against original

| Model | top1 |
| --- | ---: |
| result | +0.2 [-0.3, 0.8] |

Positive is worse; percentage points; models paired on the same samples.  

### Fidelity to original, without labels

| Model | Output | Closeness | Cosine | SQNR | KL divergence | Top-1 agreement | Largest error |
| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |
| result | scores | 0.99950 | 0.999900 | 41.2 dB | 0.00123 | 99.8 % | 0.125 |

540 samples of test.npz.  

### Declined

| Step | Count | Reason |
| --- | ---: | --- |
| 2 prune_weights | 2 | too small |
| 2 prune_weights | 1 | shared |

### Environment

|  |  |
| --- | --- |
| provider | cpu, 1 thread |
| processor | Chip, 2 cores |
| features | avx2 |
| system | Linux |
| versions | onnxpress 0.1.0, onnxruntime 1.20, Python 3.11 |
| this run | 12.3 s, 20.0 s of CPU time, at most 160 MB of memory |
"""


def test_a_whole_report_in_markdown() -> None:
    assert to_markdown(report_page(REPORT)) == MARKDOWN


def _headline(**changed: object) -> str:
    return report_page(replace(REPORT, comparison=replace(COMPARISON, **changed))).headline  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (_latency(0.0045, 1.0, 0.98, 1.02, NO_DIFFERENCE), "; no measurable difference in speed;"),
        (_latency(0.009, 0.5, 0.48, 0.52, "slower"), "; 2.00x slower [1.92, 2.08];"),
    ],
)
def test_speed_in_the_headline(result: ModelLatency, words: str) -> None:
    assert words in _headline(latency=LatencyResult(40, True, {"original": REFERENCE, "result": result}))


@pytest.mark.parametrize(
    ("drop", "words"),
    [
        ((0.02, 0.01, 0.03), "top1 98.3 % -> 96.3 % (worse)"),
        ((-0.01, -0.015, -0.005), "top1 98.3 % -> 99.3 % (better)"),
        ((0.0, -0.005, 0.005), "top1 98.3 % -> 98.3 % (no measurable drop)"),
    ],
)
def test_accuracy_in_the_headline(drop: tuple[float, float, float], words: str) -> None:
    assert words in _headline(accuracy=Accuracy(540, "t.npz", {"top1": _top1(*drop)}))


@pytest.mark.parametrize(
    ("verdicts", "words"),
    [
        (["met", "met"], "budget met."),
        (["met", "missed"], "budget missed: size m where w was asked."),
        (["met", "not proven"], "budget not proven: size m where w was asked."),
        ([], "(no measurable drop)."),
    ],
)
def test_the_worst_verdict_is_in_the_headline(verdicts: list[str], words: str) -> None:
    given = [Verdict("max_size", "w", "m", verdict) for verdict in verdicts]  # type: ignore[arg-type]
    assert report_page(replace(REPORT, verdicts=given)).headline.endswith(words)


@pytest.mark.parametrize(("verdict", "helped"), [("missed", True), ("not proven", True), ("met", False)])
def test_what_might_help_is_told_where_a_limit_is_not_met(verdict: str, helped: bool) -> None:
    given = [Verdict("min_speedup", "w", "m", verdict)]  # type: ignore[arg-type]
    budget = report_page(replace(REPORT, verdicts=given)).tables[0]
    assert any("a longer measurement" in note for note in budget.notes) is helped


def test_what_is_not_measured_says_why() -> None:
    why = "not measured: it does not run"
    page = report_page(replace(REPORT, comparison=replace(COMPARISON, latency=why, feed=why, fidelity=why)))
    tables = {table.title: table for table in page.tables}
    assert tables["Latency"].notes == [why]
    assert tables["Fidelity to original, without labels"].notes == [why]
    assert "faster" not in page.headline


def test_what_nobody_asked_for_is_left_out() -> None:
    page = comparison_page(replace(COMPARISON, size=NOT_ASKED, accuracy=NOT_ASKED, cost=NOT_ASKED, fidelity=NOT_ASKED))
    assert [table.title for table in page.tables] == ["Latency", "Environment"]
    assert page.headline == "result against original: 1.50x faster [1.40, 1.60]."


def test_nothing_measured_at_all_still_gives_sizes() -> None:
    page = report_page(replace(REPORT, comparison=None, verdicts=[]))
    size = next(table for table in page.tables if table.title == "Size")
    assert [row[1] for row in size.rows] == ["1.23 MB", "400 kB"]
    assert size.notes == ["Latency, cost, accuracy and fidelity: not measured."]
    assert page.headline == "m.onnx -> s.onnx: 1.23 MB -> 400 kB (32.5 %)."


@pytest.mark.parametrize("name", ["synthetic", "random (synthetic)"])
def test_synthetic_data_is_labelled(name: str) -> None:
    page = comparison_page(replace(COMPARISON, feed=Feed(name, {"x": (1,)}), fidelity_data=name))
    notes = [note for table in page.tables for note in table.notes]
    assert "One inference: x 1 (synthetic data), on cpu with 1 thread." in notes
    assert "540 samples of synthetic data." in notes


def test_a_file_called_synthetic_is_not() -> None:
    page = comparison_page(replace(COMPARISON, fidelity_data="a/synthetic.npz"))
    assert any("540 samples of synthetic.npz." in table.notes for table in page.tables)


def test_outputs_that_are_no_scores_and_numbers_that_are_not_finite() -> None:
    whole = replace(FIDELITY, cosine=None, sqnr_db=None, max_difference=None, kl_divergence=None, top1_agreement=None)
    whole = replace(whole, closeness=Closeness(None, None, None, 0.5))
    outputs = {"ids": replace(whole, equal_share=0.5), "scores": replace(whole, not_finite=3)}
    page = comparison_page(replace(COMPARISON, fidelity=Fidelity(9, {"result": outputs})))
    table = next(table for table in page.tables if table.title.startswith("Fidelity"))
    assert table.rows[0] == ["result", "ids", "0.87500", "-", "-", "-", "-", "-"]
    assert table.notes[1:] == [
        "result, output ids: 50.0 % of the elements are equal.",
        "result, output scores: 3 (the reference: 0) of 5,400 numbers are NaN or infinite.",
    ]


def test_losses_keep_their_unit() -> None:
    drop = Drop(0.25, Interval(-0.1, 0.5), None, None)
    scores = {"original": _score(2.5, 2.4, 2.6), "result": _score(2.75, 2.6, 2.9, drop)}
    accuracy = Accuracy(9, "t.npz", {"perplexity": MetricScores("lower", "bootstrap", scores)})
    tables = {table.title: table for table in comparison_page(replace(COMPARISON, accuracy=accuracy)).tables}
    assert tables["Accuracy"].rows[0] == ["original", "2.500 [2.400, 2.600]"]
    assert tables["Drop against original"].rows == [["result", "+0.250 [-0.100, 0.500]"]]
    note = "Positive is worse; perplexity in its own unit; models paired on the same samples."
    assert tables["Drop against original"].notes == [note]


def test_drops_of_both_kinds_are_told_apart() -> None:
    losses = MetricScores("lower", "bootstrap", {name: _score(2.5, 2.4, 2.6) for name in ("original", "result")})
    metrics = {"top1": _top1(0.0, 0.0, 0.0), "mse": losses, "mae": losses}
    page = comparison_page(replace(COMPARISON, accuracy=Accuracy(9, "t.npz", metrics)))
    (note,) = next(table for table in page.tables if table.title == "Drop against original").notes
    assert note == (
        "Positive is worse; percentage points; mse, mae in their own unit; models paired on the same samples."
    )


@pytest.mark.parametrize(
    ("value", "low", "high", "text"),
    [
        (2.998, 2.849, 3.18, "2.998 [2.849, 3.180]"),
        (9.9, 9.5, 12.25, "9.90 [9.50, 12.25]"),
        (0.0125, 0.01, 0.0158, "0.01250 [0.01000, 0.01580]"),
        (12345.6, 12000, 13000.4, "12,346 [12,000, 13,000]"),
        (2.5e-5, 2e-5, 3e-5, "2.5e-05 [2e-05, 3e-05]"),
        (2.5e7, 2e7, 3e7, "2.5e+07 [2e+07, 3e+07]"),
        (0.0, 0.0, 0.0, "0 [0, 0]"),
    ],
)
def test_losses_and_their_intervals_have_as_many_decimals(value: float, low: float, high: float, text: str) -> None:
    assert units.score_with(value, Interval(low, high), "lower") == text


def test_a_loss_stands_alike_in_the_headline() -> None:
    assert [units.score(value, "lower") for value in (3.18, 2.9984, 12.5)] == ["3.180", "2.998", "12.50"]


def test_a_drop_that_is_nothing_has_no_sign() -> None:
    assert units.drop_with(-0.0001, Interval(-0.1, 0.1), "lower") == "0.000 [-0.100, 0.100]"


def test_one_model_has_no_pairs() -> None:
    alone = replace(COMPARISON, latency=LatencyResult(40, True, {"m": REFERENCE}))
    (table,) = [table for table in comparison_page(alone).tables if table.title == "Latency"]
    assert table.notes[1] == "80 timings; 95 % intervals."


def test_the_worst_tensors_of_a_step_have_a_table() -> None:
    """Both forms of the note; what is clipped has a column where something is."""
    worst = [{"name": "x", "sqnr_db": 20.5, "clipped": 0.0123}, {"name": "w", "sqnr_db": 31.0}]
    steps = [replace(STEPS[0], name="first", notes={"worst": worst}), replace(STEPS[0], name="b", notes={"bits": 4})]
    (table,) = worst_tables(steps)
    assert table.columns == ["Step", "Tensor", "SQNR", "Clipped"]
    assert table.rows == [["1 first", "x", "20.5 dB", "1.2 %"], ["1 first", "w", "31.0 dB", "-"]]
    (table,) = worst_tables([replace(STEPS[0], name="first", notes={"sqnr_db": {"v": 9.96}})])
    assert (table.columns, table.rows) == (["Step", "Tensor", "SQNR"], [["1 first", "v", "10.0 dB"]])
    assert [*worst_tables(steps[1:])] == []
    page = report_page(replace(REPORT, steps=steps))
    for text in (to_markdown(page), to_html(page)):
        assert "Worst tensors" in text and "20.5 dB" in text


def test_the_plan_names_what_would_be_touched() -> None:
    page = plan_page("m.onnx", STEPS)
    assert page.headline == "m.onnx: 2 steps, about 1.23 MB -> 400 kB (32.5 %); nothing was written."
    assert [table.title for table in page.tables] == ["Steps", "Declined", "Touched"]
    assert page.tables[2].rows[0] == ["2 prune_weights", "a", "zeroed"]


def test_verbose_names_what_was_declined() -> None:
    declined = next(table for table in report_page(REPORT, verbose=True).tables if table.title == "Declined")
    assert declined.columns == ["Step", "Node", "Reason"]
    assert ["2 prune_weights", "d", "too small"] in declined.rows


EVIL = "<script>|*a*_b_[x](y)`&amp;\n"
EVIL_PAGE = Page(EVIL, EVIL, [Table(EVIL, [EVIL], [[EVIL]], [EVIL])])


def test_markdown_is_escaped() -> None:
    text = to_markdown(EVIL_PAGE)
    assert "\\<script>\\|\\*a\\*\\_b\\_[x]\\(y)\\`\\&amp;\\\\n" in text
    assert text.count("\n| ") == 3, "a cell never breaks a row"


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def _read(html: str) -> _Reader:
    reader = _Reader()
    reader.feed(html)
    assert reader.open == []
    return reader


def test_html_is_escaped_whole_and_needs_no_other_file() -> None:
    assert "script" not in _read(to_html(EVIL_PAGE)).tags
    reader = _read(to_html(report_page(REPORT)))
    assert not {"link", "img", "script"} & set(reader.tags)
    assert "1.50x [1.40, 1.60]" in reader.text
    assert "color-scheme: light dark" in to_html(EVIL_PAGE)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (4.5, "4.50 s"),
        (0.0123, "12.3 ms"),
        (9.999e-3, "10.0 ms"),
        (48.6e-6, "48.6 µs"),
        (5e-7, "500 ns"),
        (150, "2.5 min"),
    ],
)
def test_seconds(value: float, text: str) -> None:
    assert units.seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.002, "+0.2 [-0.1, 0.5]"), (-0.002, "-0.2 [-0.1, 0.5]"), (0.0, "0.0 [-0.1, 0.5]"), (-0.0001, "0.0 [-0.1, 0.5]")],
)
def test_drops_have_a_sign_unless_they_are_nothing(value: float, text: str) -> None:
    assert units.drop_with(value, Interval(-0.001, 0.005), "higher") == text


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (0.971, 0.990, "98.8 % [97.1, 99.0]"),
        (0.9871, 0.9882, "98.77 % [98.71, 98.82]"),
        (0.98762, 0.98769, "98.765 % [98.762, 98.769]"),
        (0.98765, 0.98765, "98.8 % [98.8, 98.8]"),
    ],
)
def test_as_many_digits_as_the_interval_warrants(low: float, high: float, text: str) -> None:
    assert units.score_with(0.98765, Interval(low, high), "higher") == text


def test_drops_have_the_digits_of_their_interval() -> None:
    assert units.drop_with(0.00042, Interval(0.0001, 0.0008), "higher") == "+0.04 [0.01, 0.08]"
    assert units.drop_with(-0.00001, Interval(-0.0004, 0.0008), "higher") == "0.00 [-0.04, 0.08]"


GUESSES = replace(Accuracy(540, "d", {"top1": _top1(0.0, -0.003, 0.008)}), classes=["0", "90", "180"], kinds=3)


def test_how_class_folders_became_labels_is_told() -> None:
    page = comparison_page(replace(COMPARISON, accuracy=GUESSES))
    (notes,) = (table.notes for table in page.tables if table.title == "Accuracy")
    assert "Labels by class folder: 0 = 0, 1 = 90, 2 = 180." in notes
    assert not any("guessing" in note for note in notes)
    many = replace(GUESSES, classes=[str(number) for number in range(100)])
    (notes,) = (t.notes for t in comparison_page(replace(COMPARISON, accuracy=many)).tables if t.title == "Accuracy")
    assert any(note.endswith("10 = 10, 11 = 11 ... and 88 more.") for note in notes)


def test_numbers_stand_to_the_right() -> None:
    table = Table(
        "", ["a", "b", "c", "d"], [["1.2 MB", "-", "11 on cpu", "98.3 % [97.1, 99.0]"], ["3", "1e-05", "x", "-"]]
    )
    assert table.right_aligned() == [True, True, False, True]
