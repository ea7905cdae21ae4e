"""The table of rules: how each aten operator is written in ONNX."""

from collections.abc import Callable
from typing import TypeVar

Result = str | tuple[str | None, ...]
Rule = Callable[..., Result]
AnyRule = TypeVar("AnyRule", bound=Rule)

RULES: dict[object, Rule] = {}


def rule(*operators: object) -> Callable[[AnyRule], AnyRule]:
    """Register a function as the rule of these operators.

    It is called with the graph, the type of the operator's (first) result and the operator's own arguments, tensors
    and symbolic sizes as `Operand`, and returns the name of its result, or a tuple of names.
    """

    def register(function: AnyRule) -> AnyRule:
        RULES.update(dict.fromkeys(operators, function))
        return function

    return register
