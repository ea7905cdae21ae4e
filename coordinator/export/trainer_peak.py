"""How much memory a trainer process is likely to take at its peak, told from its graphs before a device loads them."""

from coordinator.export.live_bytes import live_bytes
from coordinator.export.step_graphs import StepGraphs

BASE_BYTES = 83_000_000
"""Resident memory of a trainer that trained the smallest of models: interpreter and libraries (x86-64, measured)."""
MODEL_VECTORS = 8
"""Vectors of the model's size at once: received model, weights, onnxruntime's gradients and ours, the optimiser's."""
ARENA_WASTE = 1.15
"""What onnxruntime's arena takes over what is alive in it, by the pieces in which it grows (measured)."""
BYTES_PER_GRAPH_BYTE = 100
"""Of loaded graphs: onnxruntime keeps about 6 kB for a node of some 60 bytes (measured)."""
EVALUATION_BATCH = 32
"""As `edge_client.runtime` scores."""


def trainer_peak_bytes(graphs: StepGraphs, batch_size: int) -> int:
    """The estimate for batches of this size, without the device's own data; within a third of what is measured."""
    alive = live_bytes(graphs.train, batch_size) + live_bytes(graphs.evaluate, EVALUATION_BATCH)
    loaded = len(graphs.train) + len(graphs.evaluate)
    vectors = MODEL_VECTORS * 4 * graphs.layout.size
    return round(BASE_BYTES + vectors + ARENA_WASTE * alive + BYTES_PER_GRAPH_BYTE * loaded)
