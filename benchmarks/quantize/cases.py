"""int8 by one command on four real models, beside every peer: accuracy, time, size and what making it took."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.data import directed_lines, encoder_feeds, pages, text_lines
from benchmarks.tables import Goal, put
from compress_ops.measure.latency import compare_latency
from compress_ops.runtime import Session, open_session

from .scores import Feeds, Score, characters, labels, likeness, pixels
from .tools import ORT_DYNAMIC, OURS, PORTABLE, Made, int8_tools, task_of

TIMING_SECONDS = 15.0
FLOAT = "float"


@dataclass(frozen=True)
class Results:
    """By tool: scores in the order of ``metrics``, times over float by shape, megabytes."""

    scores: dict[str, Sequence[float]]
    times: dict[str, dict[str, float]]
    megabytes: dict[str, float]


Goals = Callable[[str, Results], list[Goal]]


@dataclass(frozen=True)
class Case:
    """A model, data to calibrate on, and how its work is judged on other data."""

    model: Path
    calibration: Feeds
    batch: int
    metrics: tuple[str, ...]
    score: Callable[[Session], Score]
    timed: dict[str, Feeds]
    goals: Goals


def encoder(model: Path) -> Case:
    """128 sentences calibrate, 272 are judged."""
    calibration, test = split(encoder_feeds(), 128)
    timed = {f"{n} x {length}": {k: v[:n, :length] for k, v in test.items()} for n, length in ((8, 64), (1, 32))}
    metrics = ("cosine", "top-1 retrieval")
    return Case(model, calibration, 16, metrics, lambda session: likeness(session, test), timed, _encoder_goals)


def _encoder_goals(name: str, found: Results) -> list[Goal]:
    cosine, retrieval = found.scores[OURS]
    goals = [Goal(f"{name}: cosine", cosine, 0.997), Goal(f"{name}: top-1 retrieval", retrieval, 0.9)]
    if PORTABLE in found.scores:
        goals.append(Goal(f"{name}: cosine, portable", found.scores[PORTABLE][0], 0.995))
    for shape, ratios in found.times.items():
        if ORT_DYNAMIC in ratios:
            ratio = ratios[OURS] / ratios[ORT_DYNAMIC]
            goals.append(Goal(f"{name}: time {shape}, over {ORT_DYNAMIC}", ratio, 1.0, at_most=True))
    return [*goals, Goal(f"{name}: MB", found.megabytes[OURS], 23.5, at_most=True)]


def recogniser(model: Path) -> Case:
    """48 drawn lines of text calibrate, 144 are judged."""
    pictures, texts = text_lines()

    def goals(name: str, found: Results) -> list[Goal]:
        accuracy, time = found.scores[OURS][0], found.times["6 x 320"][OURS]
        return [
            Goal(f"{name}: character accuracy over float", accuracy - found.scores[FLOAT][0], -0.005),
            Goal(f"{name}: time 6 x 320, over float", time, 0.67, at_most=True),
            Goal(f"{name}: MB", found.megabytes[OURS], 3.4, at_most=True),
        ]

    timed = {"6 x 320": {"x": pictures[:6]}}
    score = characters(model, pictures[48:], texts[48:])
    return Case(model, {"x": pictures[:48]}, 6, ("character accuracy",), lambda _: score, timed, goals)


def detector(model: Path) -> Case:
    """6 drawn pages calibrate, 10 are judged."""
    drawn = pages()
    metrics = ("pixels as float", "text, intersection over union")

    def score(session: Session) -> Score:
        return pixels(session, drawn[6:])

    return Case(model, {"x": drawn[:6]}, 1, metrics, score, {"1 x 640": {"x": drawn[:1]}}, _agreement_goals)


def classifier(model: Path) -> Case:
    """48 lines, half of them upside down, calibrate; 144 are judged."""
    pictures, turned = directed_lines()

    def score(session: Session) -> Score:
        return labels(session, pictures[48:], turned[48:])

    timed = {"6 x 192": {"x": pictures[:6]}}
    return Case(model, {"x": pictures[:48]}, 6, ("labels as float", "accuracy"), score, timed, _agreement_goals)


def _agreement_goals(name: str, found: Results) -> list[Goal]:
    times = [
        Goal(f"{name}: time {k}, over float", ratios[OURS], 0.99, at_most=True) for k, ratios in found.times.items()
    ]
    return [Goal(f"{name}: agreement with float", found.scores[OURS][0], 0.99), *times]


def judge(case: Case, folder: Path, homes: Path) -> list[Goal]:
    """Make the model with every tool, print the table, and hold ours against what was asked."""
    made = int8_tools(task_of(case.model, case.calibration, case.batch, folder, homes))
    sessions = {FLOAT: open_session(case.model)}
    sessions |= {one.name: open_session(one.path) for one in made if not one.fault}
    score = case.score(sessions[FLOAT])
    scores = {name: score(session) for name, session in sessions.items()}
    times = {shape: times_of(sessions, feeds) for shape, feeds in case.timed.items()}
    megabytes = {FLOAT: case.model.stat().st_size / 1e6, **{one.name: one.megabytes for one in made if not one.fault}}
    results = Results(scores, times, megabytes)
    _put(case, results, made)
    if OURS not in scores:
        return [Goal(f"{case.model.stem}: {OURS} fails", 0, 1)]
    return case.goals(case.model.stem, results)


def times_of(sessions: dict[str, Session], feeds: Feeds) -> dict[str, float]:
    """Medians of time over float, all in turn."""
    found = compare_latency(sessions, feeds, seconds=TIMING_SECONDS)
    return {name: model.ratio for name, model in found.models.items()}


def split(feeds: Feeds, number: int) -> tuple[Feeds, Feeds]:
    return {k: v[:number] for k, v in feeds.items()}, {k: v[number:] for k, v in feeds.items()}


def _put(case: Case, found: Results, made: list[Made]) -> None:
    heads = ["tool", *case.metrics, *(f"time {shape}" for shape in found.times), "MB", "made in", "peak memory"]
    costs = {one.name: [f"{one.ran.seconds:.0f} s", f"{one.ran.gigabytes:.2f} GB"] for one in made}
    rows = [_row(name, found, costs.get(name, ["", ""])) for name in found.scores]
    failed = [
        [one.name, f"fails: {one.fault}", *[""] * (len(heads) - 4), *costs[one.name]] for one in made if one.fault
    ]
    put(heads, [*rows, *failed], case.model.stem)


def _row(name: str, found: Results, costs: list[str]) -> list[str]:
    figures = [f"{value:.4f}" for value in found.scores[name]]
    return [
        name,
        *figures,
        *(f"{ratios[name]:.2f}" for ratios in found.times.values()),
        f"{found.megabytes[name]:.2f}",
        *costs,
    ]


CASES: dict[str, Callable[[Path], list[Case]]] = {
    "encoder": lambda models: [encoder(models / f"minilm-{name}.onnx") for name in ("classic", "dynamo")],
    "recogniser": lambda models: [recogniser(models / "ppocr-rec.onnx")],
    "detector": lambda models: [detector(models / "ppocr-det.onnx")],
    "classifier": lambda models: [classifier(models / "ppocr-cls.onnx")],
}
