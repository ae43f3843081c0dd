"""What people write, checked where it is made: the base of a recipe's sections, and of what passes and trainings take.

Types, limits, defaults and descriptions of each setting stand in its field, once; faults are told by ``recipe.check``.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


class Settings(BaseModel):
    """Unknown names and wrong types are faults, nothing is coerced."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)


def as_share(value: Any) -> Any:
    """``50%`` is 0.5; what is no number is left to be told as such."""
    number = value[:-1].strip() if isinstance(value, str) and value.endswith("%") else ""
    return float(number) / 100 if number.replace(".", "", 1).isdecimal() else value


_Written = Annotated[float, Field(gt=0, lt=1)] | Annotated[str, Field(pattern=r"^[0-9]{1,2}(\.[0-9]+)? ?%$")]
Fraction = Annotated[float, BeforeValidator(as_share, json_schema_input_type=_Written), Field(gt=0, lt=1)]
