"""A second opinion on gradients: onnx-ad differentiates the exported evaluation graph, knowing nothing of torch."""

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch.nn import functional

from tests.coordinator.export.exported import Arrays, Exported, away_from_start
from tests.coordinator.export.zoo import CLASSES, FAMILIES

onnx_ad: Any = pytest.importorskip("onnx_ad", reason="onnx-ad is not installed: pip install onnx-ad")

WITHOUT_BATCH_NORM = ("mlp", "attention")


def differentiated(model: Exported, feed: Arrays) -> Arrays:
    """The gradient of each parameter by onnx-ad, from the loss of the evaluation graph."""
    forward = onnx.load_model_from_string(model.graphs.evaluate)
    loss = next(value for value in forward.graph.output if value.name == "loss")
    del forward.graph.output[:]
    forward.graph.output.append(loss)
    parameters = [name for name in feed if name.startswith("p.")]
    backward = onnx_ad.reverse(forward, inputs=parameters, layout="onnx")
    session = onnxruntime.InferenceSession(backward.SerializeToString(), providers=["CPUExecutionProvider"])
    known: Arrays = {**feed, "adj_loss": np.ones(1, np.float32)}
    results = session.run(None, {value.name: known[value.name] for value in session.get_inputs()})
    named = dict(zip([value.name for value in session.get_outputs()], results, strict=True))
    return {f"g.{name[2:]}": np.asarray(named[f"adj_{name}"]).reshape(feed[name].shape) for name in parameters}


@pytest.mark.parametrize("family", WITHOUT_BATCH_NORM)
def test_gradient_is_that_of_an_independent_differentiator(family: str) -> None:
    torch.manual_seed(7)
    network = away_from_start(FAMILIES[family].make())
    x, y = FAMILIES[family].inputs(7), torch.randint(0, CLASSES, (7,))
    model = Exported.of(network, functional.cross_entropy, x, y)
    feed = model.feed(x, y, model.weights)
    assert model.gradient_error(model.train(x, y), differentiated(model, feed)) <= 1e-5
