"""Where in the user's own code an operator comes from: its line, and the ready-made module around it."""

import inspect
import linecache
import traceback
from collections.abc import Callable, Mapping
from functools import cache
from itertools import dropwhile, takewhile
from pathlib import Path
from types import FrameType
from typing import cast

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.fx.traceback import set_stack_trace
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from coordinator.export import recurrence

TORCH_FILES = Path(torch.__file__).parent
EXPORT_FILES = Path(__file__).parent
PASSED_THROUGH = (__file__, recurrence.__file__)
"""What stands between the user's code and torch."""
LABELLED = "gradsieve"


class Origins(TorchFunctionMode):
    """While active, labels all that is traced with the line of the model's or loss's code that asks for it.

    The label is the traced node's `stack_trace`; an operator of a gradient gets that of the operator it belongs to.
    What torch alone asks for, such as a loss that is torch's own function, has none.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._modules = {module: name for name, module in model.named_modules() if name}

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: object,
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        """Label what `func` does."""
        origin = self._origin()
        set_stack_trace([f"used {origin}"] if origin else [])
        try:
            result = func(*args, **(kwargs or {}))
        finally:
            set_stack_trace([])
        if origin:
            for value in tree_leaves(result):
                if isinstance(value, Tensor) and value.grad_fn is not None:
                    _label_gradients(value.grad_fn, f"used in the gradient of what is used {origin}")
        return result

    def _origin(self) -> str:
        """The innermost own line and named module of the call that runs now; empty where torch alone calls."""
        calls = dropwhile(lambda call: call[0].f_code.co_filename == __file__, traceback.walk_stack(_here()))
        line, module = "", ""
        for frame, number in takewhile(lambda call: not _is_within(call[0].f_code.co_filename, EXPORT_FILES), calls):
            module = module or self._module_of(frame)
            file = frame.f_code.co_filename
            if not line and not _is_within(file, TORCH_FILES):
                line = f"at {source_line(file, number)}"
        return ", ".join(filter(None, (line, module)))

    def _module_of(self, frame: FrameType) -> str:
        owner = frame.f_locals.get("self")
        is_named = isinstance(owner, nn.Module) and owner in self._modules
        return f"in module {self._modules[owner]} ({type(owner).__name__})" if is_named else ""


def fault_line(error: BaseException) -> str:
    """The innermost own line that an error came through, as `file:line: code`; empty where there is none."""
    for frame, number in reversed(list(traceback.walk_tb(error.__traceback__))):
        file = frame.f_code.co_filename
        if file in PASSED_THROUGH:
            continue
        if Path(file).parent in (EXPORT_FILES, EXPORT_FILES.parent):
            break  # what called the user's code
        if Path(file).is_absolute() and not _is_within(file, TORCH_FILES):
            return source_line(file, number)
    return ""


def source_line(file: str, number: int) -> str:
    """`file:line: code`."""
    return f"{file}:{number}: {linecache.getline(file, number).strip()}"


def _label_gradients(node: Node, label: str) -> None:
    """Have every step of the gradient that has no label yet set this one when it runs."""
    fresh = [node]
    while fresh:
        node = fresh.pop()
        notes = cast(dict[str, str], node.metadata)  # a property, which torch's types have as a method
        if LABELLED not in notes:
            notes[LABELLED] = label
            node.register_prehook(lambda _: set_stack_trace([label]))
            fresh.extend(earlier for earlier, _ in node.next_functions if earlier is not None)


@cache
def _is_within(file: str, folder: Path) -> bool:
    return Path(file).is_relative_to(folder)


def _here() -> FrameType | None:
    return inspect.currentframe()
