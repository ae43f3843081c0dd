"""What people write, checked where it is made: the base of a recipe's sections, and of what passes and trainings take.

Type, limits, default and description of each setting stand in its field, once; ``wrong_with`` tells what they do not
allow.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from .errors import PassError, raise_all

_BOOLEAN_WORDS = ("yes", "no", "on", "off", "Yes", "No", "On", "Off")
_LONGEST = 60  # characters of a value that a fault repeats
_REASONS = {
    "model_type": "should be a mapping of options",
    "dict_type": "should be a mapping",
    "list_type": "should be a list",
    "too_short": "should have at least one entry",
    "finite_number": "should be a finite number",
}
"""pydantic's words where they are not those of a recipe."""


class Settings(BaseModel):
    """Unknown names and wrong types are faults, nothing is coerced."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)

    def but(self, **changes: Any) -> Self:
        """The same settings, but for these."""
        return type(self)(**{**dict(self), **changes})


def percent(text: str) -> float | None:
    """``50%`` is 0.5; None is no percentage."""
    found = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*%", text)
    return float(found[1]) / 100 if found else None


def as_share(value: Any) -> Any:
    """``50%`` is 0.5; what is no number is left to be told as such."""
    found = percent(value) if isinstance(value, str) else None
    return value if found is None else found


_Written = Annotated[float, Field(gt=0, lt=1)] | Annotated[str, Field(pattern=r"^[0-9]{1,2}(\.[0-9]+)? ?%$")]
Fraction = Annotated[float, BeforeValidator(as_share, json_schema_input_type=_Written), Field(gt=0, lt=1)]


S = TypeVar("S", bound=Settings)


def checked(model: type[S], given: Mapping[str, Any]) -> S:
    """Settings made in code; all that is wrong with them is raised together."""
    try:
        return model(**given)
    except ValidationError as error:
        faults = error.errors(include_url=False)
        raise_all(PassError(f"{'.'.join(map(str, fault['loc']))}: {wrong_with(fault)}") for fault in faults)
        raise


def wrong_with(detail: Any) -> str:
    """One of the faults that pydantic found, in words: ``should be greater than 0 (found -1)``."""
    return _reason(detail) + _found(detail)


def _reason(detail: Any) -> str:
    if detail["type"] in _REASONS:
        return _REASONS[detail["type"]]
    message: str = detail["msg"].removeprefix("Value error, ")
    return message.replace("Input should be ", "should be ", 1)


def _found(detail: Any) -> str:
    value = detail["input"]
    if isinstance(value, dict | list):
        return ""
    text = "nothing" if value is None else repr(value)
    hint = "; write true or false" if detail["type"].startswith("bool") and value in _BOOLEAN_WORDS else ""
    return f" (found {text if len(text) <= _LONGEST else text[:_LONGEST] + '...'}){hint}"
