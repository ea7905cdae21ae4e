import pytest
from pydantic import ValidationError

from edge_client.orders import (
    ANSWER,
    LONGEST_TEXT,
    ORDER,
    Answer,
    EvaluateOrder,
    Failed,
    NeedModel,
    Order,
    Scored,
    Trained,
    TrainOrder,
    failed,
    to_line,
)
from shared.errors import MessageError
from shared.messages import LocalWork, parse

WORK = LocalWork(steps=10, batch_size=32, learning_rate=0.1, momentum=0.9, codec="partition", seed=1)
TRAIN = TrainOrder(
    device="dev",
    run="r",
    server_round=3,
    bundle="b.gsb",
    chain="c",
    target="a" * 64,
    work=WORK,
    seconds=9.0,
)
EVALUATE = EvaluateOrder(run="r", server_round=3, bundle="b.gsb", model="m", target="a" * 64, seconds=9.0)


@pytest.mark.parametrize("order", [TRAIN, EVALUATE])
def test_order_survives_its_line(order: Order) -> None:
    line = to_line(order)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert parse(ORDER, line) == order


@pytest.mark.parametrize(
    "answer",
    [
        Trained(run="r", server_round=3, object_bytes=100, steps=9, model="a" * 64, peak_rss_bytes=5),
        Scored(run="r", server_round=3, loss=0.5, correct=1, examples=2, model="a" * 64),
        Failed(run="r", server_round=3, code="data_error", text="two\nlines"),
        NeedModel(run="r", server_round=3),
        NeedModel(run="r", server_round=3, held="a" * 64),
    ],
)
def test_answer_survives_its_line(answer: Answer) -> None:
    line = to_line(answer)
    assert line.count(b"\n") == 1
    assert parse(ANSWER, line) == answer


def test_answer_is_no_order() -> None:
    with pytest.raises(MessageError):
        parse(ORDER, to_line(NeedModel(run="r", server_round=3)))


def test_run_that_is_a_path_is_refused() -> None:
    with pytest.raises(ValidationError):
        NeedModel(run="../r", server_round=3)


def test_long_reason_is_cut_to_what_travels() -> None:
    answer = failed(TRAIN, "trainer_failed", "x" * 2000)
    assert len(answer.text) == LONGEST_TEXT
    assert (answer.run, answer.server_round, answer.code) == ("r", 3, "trainer_failed")
