"""Records what a model and its gradient compute as a graph of aten operators, for any batch size."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, fx, nn
from torch._decomp import get_decompositions
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)
from torch.func import functionalize
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import (
    DimDynamic,
    GuardOnDataDependentSymNode,
    ShapeEnv,
    StatelessSymbolicContext,
)
from torch.fx.traceback import preserve_node_meta

from coordinator.export.origin import Origins, fault_line
from coordinator.export.recurrence import WholeRecurrences
from shared.errors import ExportError

aten = torch.ops.aten

FAULTS = (ArithmeticError, AssertionError, AttributeError, LookupError, NameError, RuntimeError, TypeError, ValueError)
"""What a user's own code raises when it is wrong or does not fit the shapes it is given."""

VALUE_DEPENDENT = (DataDependentOutputException, DynamicOutputShapeException, GuardOnDataDependentSymNode)

Step = Callable[..., tuple[Tensor, ...]]

# Larger than any layer and prime, so that no other dimension of a model is taken for the batch.
TRACED_BATCH = 1031

DECOMPOSED = [
    aten.binary_cross_entropy_with_logits,
    aten.elu_backward,
    aten.full_like,
    aten.hardsigmoid,
    aten.hardsigmoid_backward,
    aten.hardswish_backward,
    aten.hardtanh_backward,
    aten.huber_loss,
    aten.huber_loss_backward,
    aten.leaky_relu_backward,
    aten.log_sigmoid_backward,
    aten.log_sigmoid_forward,
    aten.mish,
    aten.mish_backward,
    aten.mse_loss,
    aten.mse_loss_backward,
    aten.ones_like,
    aten.sigmoid_backward,
    aten.silu_backward,
    aten.smooth_l1_loss,
    aten.smooth_l1_loss_backward,
    aten.softplus,
    aten.softplus_backward,
    aten.tanh_backward,
    aten.xlogy,
    aten.zeros_like,
]


def capture(step: Step, model: nn.Module, batched: Sequence[Tensor], fixed: Sequence[Tensor]) -> fx.GraphModule:
    """The aten graph of `step(*batched, *fixed)`, without in-place operators, which calls `model`.

    Dimension 0 of every `batched` tensor is one shared symbol, all other dimensions are numbers. Raises `ExportError`
    when the step fails, naming the line, or works for one batch size only.
    """
    with _portable_kernels(), preserve_node_meta():
        with WholeRecurrences(), Origins(model), _faults_placed():
            graph = _trace(step, _stand_ins(batched, fixed))
        if _mutates(graph):
            pure = functionalize(fx.Interpreter(graph).run, remove="mutations")
            graph = _trace(pure, _stand_ins(batched, fixed))
    graph.graph.eliminate_dead_code()
    first = next(iter(graph.graph.nodes)).meta["val"]
    if not isinstance(first.shape[0], torch.SymInt) or first.shape[0].node.expr.is_number:
        raise ExportError("the model only works for one batch size: do not use len(x) or x.shape[0] as a plain number")
    return graph


def _trace(step: Step, arguments: Sequence[Tensor]) -> fx.GraphModule:
    return make_fx(
        step,
        decomposition_table=_decompositions(),
        tracing_mode="symbolic",
        _allow_non_fake_inputs=True,
    )(*arguments)


def _decompositions() -> dict[OpOverload, Callable[..., object]]:
    table = get_decompositions(DECOMPOSED)
    return {operator: function for operator, function in table.items() if isinstance(operator, OpOverload)}


def _stand_ins(batched: Sequence[Tensor], fixed: Sequence[Tensor]) -> list[Tensor]:
    """Tensors without data, of the shapes of these; tracing with real ones would make every dimension a symbol."""
    mode = FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True)
    first, *others = batched
    dimensions = [DimDynamic.DYNAMIC] + [DimDynamic.STATIC] * (first.ndim - 1)
    leader = mode.from_tensor(
        torch.empty(TRACED_BATCH, *first.shape[1:], dtype=first.dtype),
        symbolic_context=StatelessSymbolicContext(dynamic_sizes=dimensions),
    )
    with mode:
        followers = [torch.empty(leader.shape[0], *other.shape[1:], dtype=other.dtype) for other in others]
    return [leader, *followers, *(mode.from_tensor(tensor, static_shapes=True) for tensor in fixed)]


def _mutates(graph: fx.GraphModule) -> bool:
    schemas = [getattr(node.target, "_schema", None) for node in graph.graph.nodes]
    return any(schema is not None and schema.is_mutable for schema in schemas)


@contextmanager
def _faults_placed() -> Iterator[None]:
    try:
        yield
    except VALUE_DEPENDENT as error:
        raise ExportError(f"a decision or a shape that depends on values cannot be exported{_at(error)}") from error
    except FAULTS as error:
        text = (str(error).strip().splitlines() or ["no reason given"])[0]
        raise ExportError(f"the model or loss fails: {type(error).__name__}: {text}{_at(error)}") from error


def _at(error: Exception) -> str:
    line = fault_line(error)
    return f"; at {line}" if line else ""


@contextmanager
def _portable_kernels() -> Iterator[None]:
    """Keep torch from choosing oneDNN's opaque operators, which hide a whole LSTM."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="TF32 acceleration")
        with torch.backends.mkldnn.flags(enabled=False):
            yield
