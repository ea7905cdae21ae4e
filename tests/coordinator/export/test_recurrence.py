import functools
from collections.abc import Callable

import onnx
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.coordinator.export.exported import Exported

STEPS, FEATURES, HIDDEN, CLASSES = 9, 3, 8, 4


class MeanState(nn.Module):
    """Classes from the mean output of a recurrent layer."""

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.layer = layer
        self.head = nn.LazyLinear(CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.layer(x)
        return torch.as_tensor(self.head(y.mean(1)))


class BothStates(nn.Module):
    """Classes from the last hidden and cell states, which begin with learnt ones."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.LSTM(FEATURES, HIDDEN)
        self.first = nn.ParameterList([nn.Parameter(torch.randn(1, 1, HIDDEN)) for _ in range(2)])
        self.head = nn.Linear(2 * HIDDEN, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        begin = [state.expand(-1, x.shape[0], -1) for state in self.first]
        _, (h, c) = self.layer(x.transpose(0, 1), tuple(begin))
        return torch.as_tensor(self.head(torch.cat([h[0], c[0]], 1)))


def layer(kind: type[nn.RNNBase], **options: bool | int | float) -> Callable[[], nn.Module]:
    return lambda: MeanState(kind(FEATURES, HIDDEN, batch_first=True, **options))  # type: ignore[arg-type]  # no mode here


MODELS: dict[str, Callable[[], nn.Module]] = {
    "lstm": layer(nn.LSTM),
    "lstm without bias": layer(nn.LSTM, bias=False),
    "lstm of two layers, both ways": layer(nn.LSTM, num_layers=2, bidirectional=True),
    "lstm with states": BothStates,
    "lstm with a projection": layer(nn.LSTM, proj_size=5),
    "gru": layer(nn.GRU),
    "gru without bias": layer(nn.GRU, bias=False),
    "gru of two layers, both ways": layer(nn.GRU, num_layers=2, bidirectional=True),
}
WHOLE = [name for name in MODELS if "projection" not in name]


pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")


@functools.cache
def case(name: str) -> Exported:
    torch.manual_seed(3)
    model, x = MODELS[name](), torch.randn(2, STEPS, FEATURES)
    model(x)
    return Exported.of(model, functional.cross_entropy, x, torch.zeros(2, dtype=torch.int64))


@pytest.mark.parametrize("size", [1, 7])
@pytest.mark.parametrize("name", MODELS)
def test_loss_and_gradient_of_a_recurrent_layer_agree_with_float64_autograd(name: str, size: int) -> None:
    x, y = torch.randn(size, STEPS, FEATURES), torch.randint(0, CLASSES, (size,))
    outputs, expected = case(name).train(x, y), case(name).reference(x, y)
    assert outputs["loss"] == pytest.approx(expected["loss"], rel=1e-5)
    for key in (key for key in expected if key.startswith("g.")):
        assert case(name).gradient_error(outputs, {key: expected[key]}) < 1e-5, key


@pytest.mark.parametrize("name", WHOLE)
def test_a_layer_stays_whole_so_that_its_graph_grows_by_few_nodes_a_step(name: str) -> None:
    model, graphs = case(name).model, case(name).graphs
    kinds = [node.op_type for node in onnx.load_model_from_string(graphs.evaluate).graph.node]
    layers = model.get_submodule("layer")
    assert isinstance(layers, nn.RNNBase)
    assert kinds.count(layers.mode) == layers.num_layers * (1 + layers.bidirectional)
    steps = STEPS * kinds.count(layers.mode)
    assert len(onnx.load_model_from_string(graphs.train).graph.node) < 10 * steps + 100 * kinds.count(layers.mode)


def test_a_layer_with_a_projection_is_left_to_torch() -> None:
    graph = case("lstm with a projection").graphs.evaluate
    assert "LSTM" not in {node.op_type for node in onnx.load_model_from_string(graph).graph.node}
