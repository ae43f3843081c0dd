"""Which int8 recipes are worth a trial on a model: it follows from the operators that hold its weights.

With data: activations quantized ahead of time, for all or for convolutions alone, smoothed or not. With data or
without: activations quantized while the model runs, and weights alone in 8 bits, computed in float as before, which
suits whatever has no fast integer kernel. For execution providers other than the CPU there is one candidate: what
they compute fast (``compress_ops.providers``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..graph.layers.weights import RECURRENT, is_left
from ..lazy import ir
from ..model import Model
from ..pipeline.job import Job, Prepared
from ..providers import facts_of
from ..quantize.int8.eligible import why_not, why_not_left
from ..recipe import Step
from .precisions import PASSES_OF, Passes, default_of
from .preparing import steps_of

MAY_FAIL = {"allow_unchanged": True}
_MATRICES = ("Gemm", "MatMul")
_STATIC = {"Conv", *_MATRICES}
_KINDS = (*_STATIC, "Gather", *RECURRENT)


@dataclass(frozen=True)
class Candidate:
    """A recipe to try. ``float_arithmetic``: it computes as before, so that it is smaller, and no faster.

    ``smooths`` names the candidate that this one is with smoothing before it.
    """

    name: str
    passes: list[Step]
    float_arithmetic: bool = False
    smooths: str = ""


def candidates(prepared: Prepared, provider: str) -> list[Candidate]:
    """What to try on the model for an execution provider, the likeliest first; all begin with the steps of the job."""
    model, with_data = prepared.model.copy(), "calibration" in prepared.data
    default = default_of(provider, with_data=with_data)
    if default is not None:
        found: Mapping[str, Passes] = {default: PASSES_OF[default]}
    else:
        model.infer_shapes()
        present = _present(model)
        found = {**(_with_data(present) if with_data else {}), **_without_data(present)}
    first, last = prepared.job.recipe.passes, finishing(model, provider)
    return [
        Candidate(name, [*first, *steps_of(passes), *last], name == _WEIGHTS_ALONE, _smoothed(name))
        for name, passes in _different(found).items()
    ]


def _different(found: Mapping[str, Passes]) -> dict[str, Passes]:
    """Each way once, by its first name: without convolutions two of them are one."""
    kept: dict[str, Passes] = {}
    for name, passes in found.items():
        if passes not in kept.values():
            kept[name] = passes
    return kept


def would_bring(job: Job) -> str:
    """What calibration data would add to the choice on the CPU; empty where there is some."""
    if job.recipe.data.calibration is not None or job.recipe.provider[0].facts.fast is not None:
        return ""
    return (
        "Chosen on made-up inputs. With --data DATA, a few dozen real ones, closeness is judged on what the model "
        "really sees, and static int8 is tried too, which is mostly the fastest where there are convolutions."
    )


def _present(model: Model) -> set[str]:
    """The kinds of operators whose weights can become int8."""
    return {node.op_type for node in model.nodes() if node.op_type in _KINDS and _can_be_int8(node)}


def _can_be_int8(node: ir.Node) -> bool:
    return not (why_not_left(node) if is_left(node) else why_not(node))


def finishing(model: Model, provider: str) -> list[Step]:
    """Normalizations in the operators that the CPU runs fastest, where there are some."""
    normalizes = any(node.op_type in ("LayerNormalization", "ReduceMean") for node in model.nodes())
    return steps_of([{"unfuse_norms": {}}]) if normalizes and not facts_of(provider).fast_fused_norms else []


def _with_data(present: set[str]) -> dict[str, Passes]:
    """Static for convolutions, and smoothed and dynamic for models of matrices alone."""
    matrices, others = sorted(present & {*_MATRICES}), sorted(present - _STATIC)
    found = {"static": [*_static(sorted(present & _STATIC)), *_dynamic(others)]}
    if matrices:
        found["static convolutions, dynamic matrices"] = [
            *_static(sorted(present & {"Conv"})),
            *_dynamic(sorted([*matrices, *others])),
        ]
        smoothed = {f"{_SMOOTH}{name}": [{"smooth": MAY_FAIL}, *passes] for name, passes in found.items()}
        found = {**found, **smoothed} if "Conv" in present else {**dict(reversed(smoothed.items())), **found}
    return {name: passes for name, passes in found.items() if passes}


def _smoothed(name: str) -> str:
    return name.removeprefix(_SMOOTH) if name.startswith(_SMOOTH) else ""


_SMOOTH = "smooth, "
_WEIGHTS_ALONE = "8-bit weights, float arithmetic"
_LOOKED_UP = {"bits": 8, "method": "hqq", "operators": ["Gather"]}  # one kernel looks up and decodes
_DECODED = {"bits": 8, "storage": "decoded", "method": "hqq"}  # gptq's Hessians are not worth it at 8 bits


def _without_data(present: set[str]) -> dict[str, Passes]:
    """Dynamic for all, for all but convolutions (whose dynamic kernel is slow), and beside convolutions in 8 bits."""
    cheap = sorted(present - {"Conv"})
    found = {f"dynamic {', '.join(kinds)}": _dynamic(kinds) for kinds in (sorted(present), cheap) if kinds}
    if cheap and "Conv" in present:
        convolutions: Passes = [{"quantize_weights": {**_DECODED, "only": ["Conv"], **MAY_FAIL}}]
        found[f"dynamic {', '.join(cheap)}, 8-bit convolutions"] = [*_dynamic(cheap), *convolutions]
    tables: Passes = [{"quantize_weights": {**_LOOKED_UP, **MAY_FAIL}}] if "Gather" in present else []
    return {**found, _WEIGHTS_ALONE: [*tables, {"quantize_weights": {**_DECODED, **(MAY_FAIL if tables else {})}}]}


def _static(kinds: Sequence[str]) -> Passes:
    return [{"quantize_static": {"operators": list(kinds)}}] if kinds else []


def _dynamic(kinds: Sequence[str]) -> Passes:
    return [{"quantize_dynamic": {"operators": list(kinds)}}] if kinds else []
