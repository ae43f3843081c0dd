"""Each gradient rule against central differences, with sizes known and, where the rule allows it, unknown."""

import pytest

from compress_ops.autodiff import operators
from tests.autodiff import gradient_cases_elementwise, gradient_cases_layers, gradient_cases_shape
from tests.autodiff.gradient_case import Case

CASES = [
    *gradient_cases_elementwise.CASES,
    *gradient_cases_layers.CASES,
    *gradient_cases_shape.CASES,
]
TESTED_ELSEWHERE = {"QuantizeLinear", "DequantizeLinear"}  # test_gradient_quantization.py: they are not smooth


@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradient_is_the_central_difference(case: Case) -> None:
    case.check(free=False)


@pytest.mark.parametrize("case", [case for case in CASES if case.free], ids=str)
def test_gradient_with_inputs_of_unknown_size(case: Case) -> None:
    case.check(free=True)


def test_every_rule_has_a_case() -> None:
    assert set(operators()) - set().union(*(case.operators for case in CASES)) == TESTED_ELSEWHERE
