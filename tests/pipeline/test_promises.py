"""What a pass must not do, however it does it: each ends as a fault with the step and its line, and nothing written."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from compress_ops.errors import BrokenPromise, DataError, Faults, ModelError, OnnxpressError, PassError, UsageError
from compress_ops.model import Model
from compress_ops.passes import ALL, NONE, Change, Context, Need, Only, Pass, Promise, Skip, register
from compress_ops.pipeline import Job, plan, run
from tests.helpers import noise, outputs, proto_of

from .fake_case import fake

MakeJob = Callable[..., Job]
Listing = Callable[[], dict[str, bytes]]


def _nothing(model: Model) -> None:
    pass


def _grow(model: Model) -> None:
    model.add_weight("more", ir.tensor(np.zeros(1000, np.float32)))


def _fault(job: Job, listing: Listing, kind: type[BaseException]) -> Any:
    """The error of a run that must leave no trace."""
    before = listing()
    with pytest.raises(kind) as raised:
        run(job)
    assert listing() == before
    assert type(raised.value) is kind
    return raised.value


@pytest.mark.parametrize("promise", [Promise.SHRINKS, Promise.IMPROVES])
def test_a_step_that_changes_nothing_is_a_fault(job: MakeJob, listing: Listing, promise: Promise) -> None:
    made = job("passes:\n  - simplify\n  - fake", fake(_nothing, promise, touch=False))
    fault = _fault(made, listing, BrokenPromise)
    assert str(fault).split("\n  ") == [
        "r.yaml:4:5: step 2, fake changed nothing",
        "it found nothing to change",
        "allow_unchanged: true on the step permits this",
    ]


def _chooser() -> Pass:
    """A pass that takes kinds of operators and patterns, and changes nothing."""

    def choose(model: Model, ctx: Context, *, operators: list[str], only: Only = ALL, skip: Skip = NONE) -> Change:
        """Choose."""
        return Change()

    return register("choose", promises=Promise.SHRINKS)(choose)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("operators: [Conv, Gemm]", "the model has no operator of the kinds that it works on (Conv, Gemm)"),
        ("operators: [Conv], skip: Relu", "the model has no operator of the kinds that it works on (Conv)"),
        ("operators: [MatMul], only: Relu", "no operator of the kinds that it works on (MatMul) is left by only/skip"),
        ("operators: [MatMul], skip: p*", "no operator of the kinds that it works on (MatMul) is left by only/skip"),
        ("operators: [MatMul], skip: Relu", "it found nothing to change"),
        ("operators: [MatMul]", "it found nothing to change"),
        ("operators: [], skip: Relu", "no operator of the kinds that it works on is left by only/skip"),
    ],
)
def test_a_step_without_work_says_what_left_it_none(job: MakeJob, listing: Listing, options: str, reason: str) -> None:
    fault = _fault(job(f"passes: [choose: {{{options}}}]", _chooser()), listing, BrokenPromise)
    assert fault.hint.split("\n  ") == [reason, "allow_unchanged: true on the step permits this"]


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        ("quantize_dynamic: {only: Relu}", "no operator of the kinds that it works on (MatMul, Gemm"),
        ("quantize_dynamic: {operators: [Conv]}", "the model has no operator of the kinds that it works on (Conv)"),
    ],
)
def test_real_passes_say_what_left_them_no_work(job: MakeJob, listing: Listing, step: str, reason: str) -> None:
    assert _fault(job(f"passes: [{step}]"), listing, BrokenPromise).hint.startswith(reason)


def test_the_reasons_of_a_step_that_changes_nothing_are_told(job: MakeJob, listing: Listing) -> None:
    def decline_all(model: Model, ctx: Context) -> Change:
        """Decline."""
        change = Change()
        for number in range(7):
            change.decline(f"/node.{number}", f"reason {number}")
        return change

    fault = _fault(
        job("passes: [fake]", register("fake", promises=Promise.SHRINKS)(decline_all)), listing, BrokenPromise
    )
    assert fault.hint.split("\n  ")[:-1] == [
        *(f"/node.{number}: reason {number}" for number in range(5)),
        "... and 2 more declined",
    ]


def test_a_real_pass_with_nothing_to_do_is_a_fault_with_its_reasons(job: MakeJob, listing: Listing) -> None:
    made = job("passes:\n  - quantize_dynamic\n  - quantize_dynamic")
    assert "r.yaml:4:5: step 2, quantize_dynamic changed nothing" in str(_fault(made, listing, BrokenPromise))


def test_a_pass_that_prepares_may_do_nothing(job: MakeJob) -> None:
    report = run(job("passes: [fake]", fake(_nothing, Promise.PREPARES, touch=False)))
    assert report.steps[0].touched == {} and report.out.is_file()


@pytest.mark.parametrize("promise", [Promise.SHRINKS, Promise.IMPROVES])
def test_allow_unchanged_lifts_that(job: MakeJob, promise: Promise) -> None:
    text = "passes: [fake: {allow_unchanged: true}]"
    assert run(job(text, fake(_nothing, promise, touch=False))).steps[0].touched == {}


def test_allow_larger_does_not_allow_unchanged(job: MakeJob, listing: Listing) -> None:
    _fault(job("passes: [fake: {allow_larger: true}]", fake(_nothing, touch=False)), listing, BrokenPromise)


def test_a_step_that_promised_to_shrink_and_grows_is_a_fault(job: MakeJob, listing: Listing) -> None:
    fault = _fault(job("passes: [fake]", fake(_grow)), listing, BrokenPromise)
    assert str(fault.place) == "r.yaml:2:10"
    assert fault.message == "step 1, fake made the model 4000 bytes larger"
    assert fault.hint == "allow_larger: true on the step permits this"


def test_allow_unchanged_does_not_allow_larger(job: MakeJob, listing: Listing) -> None:
    _fault(job("passes: [fake: {allow_unchanged: true}]", fake(_grow)), listing, BrokenPromise)


@pytest.mark.parametrize("promise", [Promise.IMPROVES, Promise.PREPARES])
def test_growth_of_other_passes_is_reported(job: MakeJob, promise: Promise) -> None:
    report = run(job("passes: [fake]", fake(_grow, promise)))
    assert report.steps[0].bytes_after == report.steps[0].bytes_before + 4000
    assert report.bytes_after > report.bytes_before + 4000


def test_allow_larger_lifts_that_of_the_step_and_of_the_run(job: MakeJob) -> None:
    report = run(job("passes: [fake: {allow_larger: true}]", fake(_grow)))
    assert report.bytes_after > report.bytes_before


def test_a_run_that_ends_larger_is_a_fault_if_any_step_promised_to_shrink(job: MakeJob, listing: Listing) -> None:
    grow = register("grow", promises=Promise.IMPROVES)(fake(_grow).function)
    made = job("passes:\n  - grow\n  - fake", grow, fake(_nothing))
    fault = _fault(made, listing, BrokenPromise)
    assert fault.message.startswith("the result is larger than the model: 8,")
    assert "allow_larger" in fault.hint


def test_a_generated_constant_counts_as_if_stored(job: MakeJob, listing: Listing) -> None:
    """4 MB that the graph makes at run time are 4 MB: moving weights into the graph is no compression."""

    def generate(model: Model) -> None:
        shape = model.add_weight("shape", ir.tensor(np.array([1000, 1000])))
        node = ir.node("ConstantOfShape", [shape], name="big")
        node.outputs[0].name = "big"
        model.graph.append(node)

    fault = _fault(job("passes: [fake]", fake(generate)), listing, BrokenPromise)
    grown = int(fault.message.split()[-3])
    assert 4_000_000 < grown < 4_001_000


def _rename_output(model: Model) -> None:
    model.graph.outputs[0].name = "z"


def _drop_input(model: Model) -> None:
    model.graph.inputs.append(ir.val("extra", ir.DataType.FLOAT, ir.Shape([1])))


def _change_type(model: Model) -> None:
    model.graph.outputs[0].type = ir.TensorType(ir.DataType.FLOAT16)


def _add_output(model: Model) -> None:
    node = next(model.nodes())
    node.outputs[0].type, node.outputs[0].shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape(["n", 32])
    model.graph.outputs.append(node.outputs[0])


@pytest.mark.parametrize("action", [_rename_output, _drop_input, _change_type, _add_output])
@pytest.mark.parametrize("promise", list(Promise))
def test_inputs_and_outputs_stay(
    job: MakeJob, listing: Listing, action: Callable[[Model], object], promise: Promise
) -> None:
    fault = _fault(job("passes: [fake]", fake(action, promise)), listing, PassError)
    assert str(fault).startswith("r.yaml:2:10: step 1, fake: the pass changed inputs or outputs: ")


def _unknown_operator(model: Model) -> None:
    next(model.nodes()).op_type = "Nonsense"


def _dangling_value(model: Model) -> None:
    list(model.nodes())[1].replace_input_with(0, ir.val("nowhere"))


@pytest.mark.parametrize("action", [_unknown_operator, _dangling_value])
def test_a_pass_that_breaks_the_graph_is_a_fault(
    job: MakeJob, listing: Listing, action: Callable[[Model], object]
) -> None:
    fault = _fault(job("passes: [simplify, fake]", fake(action)), listing, PassError)
    assert str(fault).startswith("r.yaml:2:20: step 2, fake: the graph is not valid ONNX: ")


def _cut_weight(model: Model) -> None:
    """63 rows cannot be multiplied by 64 columns: valid ONNX by its form, but onnxruntime will not load it."""
    weight = next(model.weights())
    weight.const_value = ir.tensor(np.zeros((63, 32), np.float32), name="w")
    weight.shape = ir.Shape([63, 32])


def test_a_result_that_onnxruntime_refuses_is_a_fault(job: MakeJob, listing: Listing) -> None:
    fault = _fault(job("passes: [fake, simplify]", fake(_cut_weight)), listing, ModelError)
    assert "onnxruntime refuses" in fault.message


def test_check_steps_says_which_step_broke_the_model(job: MakeJob, listing: Listing) -> None:
    made = job("passes: [simplify, fake, simplify]", fake(_cut_weight), check_steps=True)
    fault = _fault(made, listing, ModelError)
    assert str(fault).startswith("r.yaml:2:20: step 2, fake: onnxruntime refuses")


def test_check_steps_of_a_good_run(job: MakeJob) -> None:
    assert run(job("passes: [simplify, quantize_dynamic]", check_steps=True)).out.is_file()


def _narrow_output(model: Model) -> None:
    """32 columns become 8, while the output goes on to say 32."""
    weight = next(model.weights())
    weight.const_value = ir.tensor(np.zeros((64, 8), np.float32), name="w")
    weight.shape = ir.Shape([64, 8])


@pytest.mark.parametrize(("options", "where"), [({}, ""), ({"check_steps": True}, "r.yaml:2:10: step 1, fake: ")])
def test_an_output_that_is_no_longer_what_it_says_is_a_fault(
    job: MakeJob, listing: Listing, options: dict[str, Any], where: str
) -> None:
    fault = _fault(job("passes: [fake]", fake(_narrow_output), **options), listing, PassError)
    assert str(fault) == f"{where}output 'y' is no longer of the shape that it declares, [n,32]"


WRONG_FROM_THE_START = {
    "a last axis": ("float[n,10] y", "h = MatMul(x, w) s = Shape(h) y = Reshape(h, s)"),
    "a number of axes": ("float[10] y", "y = MatMul(x, w)"),
    "what a loop collects": (
        "float[n,32] y",
        """k = Shape(x) z = Gather(k, zero) r = Loop(z, yes) <body = b (int64 i, bool go) => (bool on, float[p,q] row) {
            row = Gather(x, i) on = Identity(go) }> y = MatMul(r, w)""",
    ),
}


@pytest.mark.parametrize(("declared", "nodes"), WRONG_FROM_THE_START.values(), ids=WRONG_FROM_THE_START)
@pytest.mark.parametrize("steps", ["simplify", "quantize_dynamic", "simplify, to_float16"])
def test_a_shape_that_was_wrong_from_the_start_is_nobodys_fault(
    job: MakeJob, tmp_path: Path, declared: str, nodes: str, steps: str
) -> None:
    weights = {"w": noise(64, 32), "zero": np.int64(0), "yes": np.array(True)}
    model = proto_of(f"g (float[n,64] x) => ({declared}) {{ {nodes} }}", **weights)
    onnx.save(model, tmp_path / "wrong.onnx")
    run(job(f"passes: [{steps}]", model=tmp_path / "wrong.onnx", check_steps=True))
    x = noise(4, 64)
    (found,), (before,) = outputs(onnx.load(tmp_path / "out.onnx"), x=x), outputs(model, x=x)
    assert np.abs(found - before).max() < 0.05 * np.abs(before).max()


def test_pruning_alone_keeps_its_promise(job: MakeJob) -> None:
    """The zeros pay only when compressed: the file is as large as before, plus the note on where it came from."""
    report = run(job("passes: [prune_weights: {ratio: 0.5}]"))
    assert report.steps[0].bytes_after == report.steps[0].bytes_before
    assert 0 <= report.bytes_after - report.bytes_before < 300


def _raise(error: BaseException) -> Callable[[Model], object]:
    def action(model: Model) -> None:
        _grow(model)
        raise error

    return action


def test_our_own_bugs_keep_their_type_and_say_where(job: MakeJob, listing: Listing) -> None:
    error = _fault(job("passes: [simplify, fake]", fake(_raise(ValueError("oops")))), listing, ValueError)
    assert str(error) == "oops" and error.__notes__ == ["in step 2, fake (r.yaml:2:20)"]


def test_a_pass_error_gets_step_and_line_and_keeps_its_hint(job: MakeJob, listing: Listing) -> None:
    fault = _fault(job("passes: [fake]", fake(_raise(PassError("no", hint="try")))), listing, PassError)
    assert str(fault) == "r.yaml:2:10: step 1, fake: no\n  try"


def test_several_faults_of_a_pass_each_get_step_and_line(job: MakeJob, listing: Listing) -> None:
    both = Faults([DataError("one"), UsageError("two", hint="hint")])
    fault = _fault(job("passes: [fake]", fake(_raise(both))), listing, Faults)
    assert [type(one) for one in fault.faults] == [DataError, UsageError]
    assert str(fault) == "r.yaml:2:10: step 1, fake: one\nr.yaml:2:10: step 1, fake: two\n  hint"


def test_an_interrupted_pass_leaves_nothing(job: MakeJob, listing: Listing, linear: Path) -> None:
    before = listing()
    with pytest.raises(KeyboardInterrupt):
        run(job("passes: [fake]", fake(_raise(KeyboardInterrupt()))))
    assert listing() == before


@pytest.mark.parametrize("need", [Need.CALIBRATION, Need.TRAINING, Need.EVALUATION])
def test_a_need_that_is_not_met_fails_before_any_work(job: MakeJob, listing: Listing, need: Need) -> None:
    called: list[object] = []
    function = fake(called.append).function
    needy = register("needy", promises=Promise.SHRINKS, needs={need})(function)
    first = register("first", promises=Promise.SHRINKS)(function)
    with pytest.raises(OnnxpressError, match=f"^r.yaml:2:17: needy needs {need.value}"):
        run(job("passes: [first, needy]", first, needy))
    assert called == []


def test_a_plan_holds_passes_to_their_promises_too(job: MakeJob, listing: Listing) -> None:
    before = listing()
    with pytest.raises(BrokenPromise):
        plan(job("passes: [fake]", fake(_nothing, touch=False), out=None))
    assert listing() == before


def test_shapes_are_inferred_for_a_pass_that_needs_them(job: MakeJob) -> None:
    seen = []

    def look(model: Model) -> None:
        seen.append(next(model.nodes()).outputs[0].shape)

    function = fake(look, Promise.PREPARES).function
    plan(
        job("passes: [shapes]", register("shapes", promises=Promise.PREPARES, needs={Need.SHAPES})(function), out=None)
    )
    assert [str(size) for size in seen[0]] == ["n", "32"]
