"""LSTM and GRU layers: forward as the ONNX operators, backward with everything outside the recurrence done at once.

A backward pass needs the gates of all steps again. They follow from the hidden states, which the forward pass gives,
by two matrix products for all steps together; so do all factors that do not depend on later steps. What is left to do
step by step is a handful of operators each.
"""

from collections.abc import Sequence

from coordinator.export.graph import Graph, Input
from coordinator.export.operand import Operand, ValueType
from coordinator.export.recurrence import ops
from coordinator.export.rules.registry import rule

LSTM_ORDER = (0, 3, 1, 2)
"""Gates: torch has input, forget, cell, output; ONNX input, output, forget, cell."""
GRU_ORDER = (1, 0, 2)
"""Gates: torch has reset, update, new; ONNX update, reset, new."""


@rule(ops.lstm.default)
def _lstm(
    g: Graph, out: ValueType, x: Operand, h: Operand, c: Operand, w_x: Operand, w_h: Operand, bias: Operand | None
) -> tuple[str, ...]:
    hidden = w_h.fixed_size(1)
    biases = None
    if bias is not None:
        none = g.op("Expand", 0.0, g.ints([4 * hidden]))
        biases = _lead(g, g.concat([_ordered(g, bias, LSTM_ORDER), none], 0))
    w, r = (_lead(g, _ordered(g, weight, LSTM_ORDER)) for weight in (w_x, w_h))
    y, _, memory = g.ops("LSTM", 3, x, w, r, biases, None, _lead(g, h), _lead(g, c), hidden_size=hidden)
    return g.op("Squeeze", y, g.ints([1])), g.op("Squeeze", memory, g.ints([0]))


@rule(ops.gru.default)
def _gru(
    g: Graph,
    out: ValueType,
    x: Operand,
    h: Operand,
    w_x: Operand,
    w_h: Operand,
    b_x: Operand | None,
    b_h: Operand | None,
) -> str:
    biases = None
    if b_x is not None and b_h is not None:
        biases = _lead(g, g.concat([_ordered(g, b_x, GRU_ORDER), _ordered(g, b_h, GRU_ORDER)], 0))
    w, r = (_lead(g, _ordered(g, weight, GRU_ORDER)) for weight in (w_x, w_h))
    y, _ = g.ops("GRU", 2, x, w, r, biases, None, _lead(g, h), hidden_size=w_h.fixed_size(1), linear_before_reset=1)
    return g.op("Squeeze", y, g.ints([1]))


@rule(ops.lstm_backward.default)
def _lstm_backward(
    g: Graph,
    out: ValueType,
    grad: Operand,
    grad_c: Operand | None,
    x: Operand,
    h: Operand,
    c: Operand,
    w_x: Operand,
    w_h: Operand,
    bias: Operand | None,
    y: Operand,
) -> tuple[str, ...]:
    steps = x.fixed_size(0)
    rows, before = _rows(g, x), _rows_before(g, y, h)
    sums = g.op("Gemm", before, w_h, g.op("Gemm", rows, w_x, bias, transB=1), transB=1)
    i, f, cell, o = _split(g, sums, 4, 1)
    i, f, o, cell = *(g.op("Sigmoid", gate) for gate in (i, f, o)), g.op("Tanh", cell)
    forget, added = _split(g, f, steps), _split(g, g.op("Mul", i, cell), steps)
    memories = [c.name]
    for kept, new in zip(forget, added, strict=True):
        memories.append(g.op("Add", g.op("Mul", kept, memories[-1]), new))
    shown = g.op("Tanh", g.concat(memories[1:], 0))
    to_memory = _split(g, g.op("Mul", o, _tanh_slope(g, shown)), steps)
    slopes = [
        g.op("Mul", cell, _sigmoid_slope(g, i)),
        g.op("Mul", g.concat(memories[:-1], 0), _sigmoid_slope(g, f)),
        g.op("Mul", i, _tanh_slope(g, cell)),
        g.op("Mul", shown, _sigmoid_slope(g, o)),
    ]
    to_sums, grads = _split(g, g.concat(slopes, 1), steps), _split(g, _rows(g, grad), steps)
    of_hidden, of_memory, of_sums = grads[-1], None if grad_c is None else grad_c.name, []
    for step in reversed(range(steps)):
        fresh = g.op("Mul", of_hidden, to_memory[step])
        of_memory = fresh if of_memory is None else g.op("Add", of_memory, fresh)
        both = g.concat([of_memory, of_memory, of_memory, of_hidden], 1)
        of_sums.append(g.op("Mul", both, to_sums[step]))
        of_memory = g.op("Mul", of_memory, forget[step])
        of_hidden = g.op("Gemm", of_sums[-1], w_h, grads[step - 1] if step else None)
    all_sums = g.concat(of_sums[::-1], 0)
    return (
        g.reshape(g.op("Gemm", all_sums, w_x), [steps, -1, x.fixed_size(2)]),
        of_hidden,
        str(of_memory),
        g.op("Gemm", all_sums, rows, transA=1),
        g.op("Gemm", all_sums, before, transA=1),
        g.sum(all_sums, [0]),
    )


@rule(ops.gru_backward.default)
def _gru_backward(
    g: Graph,
    out: ValueType,
    grad: Operand,
    x: Operand,
    h: Operand,
    w_x: Operand,
    w_h: Operand,
    b_x: Operand | None,
    b_h: Operand | None,
    y: Operand,
) -> tuple[str, ...]:
    steps = x.fixed_size(0)
    rows, before = _rows(g, x), _rows_before(g, y, h)
    r_x, z_x, n_x = _split(g, g.op("Gemm", rows, w_x, b_x, transB=1), 3, 1)
    r_h, z_h, n_h = _split(g, g.op("Gemm", before, w_h, b_h, transB=1), 3, 1)
    r, z = g.op("Sigmoid", g.op("Add", r_x, r_h)), g.op("Sigmoid", g.op("Add", z_x, z_h))
    new = g.op("Tanh", g.op("Add", n_x, g.op("Mul", r, n_h)))
    to_new = g.op("Mul", g.op("Sub", 1.0, z), _tanh_slope(g, new))
    to_update = g.op("Mul", g.op("Sub", before, new), _sigmoid_slope(g, z))
    to_reset = g.op("Mul", g.op("Mul", to_new, n_h), _sigmoid_slope(g, r))
    to_sums = _split(g, g.concat([to_reset, to_update, g.op("Mul", to_new, r)], 1), steps)
    kept, grads = _split(g, z, steps), _split(g, _rows(g, grad), steps)
    of_hidden, of_hiddens, of_sums = grads[-1], [], []
    for step in reversed(range(steps)):
        of_hiddens.append(of_hidden)
        of_sums.append(g.op("Mul", g.concat([of_hidden] * 3, 1), to_sums[step]))
        past = g.op("Mul", of_hidden, kept[step])
        past = g.op("Add", past, grads[step - 1]) if step else past
        of_hidden = g.op("Gemm", of_sums[-1], w_h, past)
    all_sums, all_hidden = g.concat(of_sums[::-1], 0), g.concat(of_hiddens[::-1], 0)
    hidden = w_h.fixed_size(1)
    outer = g.concat([g.slice(all_sums, 1, 0, 2 * hidden), g.op("Mul", all_hidden, to_new)], 1)
    return (
        g.reshape(g.op("Gemm", outer, w_x), [steps, -1, x.fixed_size(2)]),
        of_hidden,
        g.op("Gemm", outer, rows, transA=1),
        g.op("Gemm", all_sums, before, transA=1),
        g.sum(outer, [0]),
        g.sum(all_sums, [0]),
    )


def _ordered(g: Graph, weight: Operand, order: Sequence[int]) -> str:
    """The gates of a weight `[gates * H, ...]` in another order."""
    gates = _split(g, weight, len(order))
    return g.concat([gates[gate] for gate in order], 0)


def _split(g: Graph, value: Input, parts: int, axis: int = 0) -> tuple[str, ...]:
    """Equal parts along an axis."""
    return g.ops("Split", parts, value, axis=axis, num_outputs=parts)


def _rows(g: Graph, value: Operand) -> str:
    """`[T, B, n]` as `[T * B, n]`."""
    return g.reshape(value, [-1, value.fixed_size(2)])


def _rows_before(g: Graph, y: Operand, h: Operand) -> str:
    """The hidden state before each step, `[T * B, H]`: the initial one, and all of `y` but the last."""
    earlier = g.concat([_lead(g, h), g.slice(y, 0, 0, y.fixed_size(0) - 1)], 0)
    return g.reshape(earlier, [-1, y.fixed_size(2)])


def _lead(g: Graph, value: Input) -> str:
    return g.op("Unsqueeze", value, g.ints([0]))


def _sigmoid_slope(g: Graph, gate: str) -> str:
    return g.op("Mul", gate, g.op("Sub", 1.0, gate))


def _tanh_slope(g: Graph, value: str) -> str:
    return g.op("Sub", 1.0, g.op("Mul", value, value))
