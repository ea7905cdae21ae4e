import pytest
import torch

from coordinator.bench import runtime
from coordinator.bench.families import FAMILIES, plain_convolutions
from coordinator.bench.runtime import claims_of, measure, table_of
from coordinator.bench.torch_steps import TorchSteps
from shared.errors import ExportError


def row(family: str, ratio: float) -> dict[str, object]:
    return {"family": family, "ratio_median": ratio / 2, "ratio_min": ratio}


def test_claims_are_the_worst_of_small_and_of_large_families() -> None:
    rows = [row("mlp", 0.5), row("lenet", 0.8), row("resnet-8", 1.4), row("lstm", 1.2)]
    small, large = claims_of(rows)
    assert (small.value, small.met, large.value, large.met) == (0.8, "floor", 1.4, "floor")
    assert "mlp, lenet" in small.claim


def test_family_that_cannot_be_exported_says_why_and_makes_no_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise ExportError("operator aten.frobnicate has no ONNX rule")

    monkeypatch.setattr(runtime, "export_step", refuse)
    missing = measure("gru", turns=1)
    assert missing == {
        "family": "gru", "batch_size": 32, "not_exported": "operator aten.frobnicate has no ONNX rule"
    }  # fmt: skip
    assert claims_of([missing]) == []
    assert "gru: not exported: operator aten.frobnicate" in table_of([missing], "command", "")


@pytest.mark.parametrize("name", ["mlp", "1d-cnn", "ds-cnn", "lstm"])
def test_family_takes_inputs_of_its_shape_and_knows_its_classes(name: str) -> None:
    family = FAMILIES[name]
    assert family.make()(torch.zeros(2, *family.input_shape)).shape == (2, family.classes)


def test_plain_convolutions_compute_the_same() -> None:
    torch.manual_seed(1)
    x = torch.randn(2, *FAMILIES["ds-cnn"].input_shape)
    model = FAMILIES["ds-cnn"].make()
    before = model(x)
    torch.testing.assert_close(plain_convolutions(model)(x), before)


def test_torch_steps_train_and_are_timed() -> None:
    model = torch.nn.Linear(3, 2)
    before = model.weight.detach().clone()
    taken = TorchSteps(model, torch.randn(4, 3), torch.zeros(4, dtype=torch.int64)).measure(3)
    assert len(taken) == 3
    assert min(taken) > 0
    assert not torch.equal(model.weight, before)
