"""checking — what holds every call in the tests to its annotations: shapes by jaxtyping, types by beartype.

pytest is told to use it in pyproject.toml. A function that cannot be checked is not let through unseen: it is listed in
UNCHECKED, and test_house fails while there is one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from beartype import beartype
from beartype.roar import BeartypeDecorHintPep3119Exception

UNCHECKED: list[str] = []


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    try:
        return beartype(function)
    except BeartypeDecorHintPep3119Exception:  # an annotation names a Protocol that is not @runtime_checkable
        UNCHECKED.append(f"{function.__module__}.{function.__qualname__}")
        return function
