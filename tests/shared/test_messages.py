import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import MessageError
from shared.messages import (
    COMMAND,
    COORDINATOR_STATE,
    DEVICE_EVENT,
    DEVICE_STATE,
    LARGEST_MESSAGE_BYTES,
    ROUND_MANIFEST,
    Birth,
    BlobRef,
    CancelCommand,
    CoordinatorState,
    Death,
    EvaluateCommand,
    Evaluated,
    Heartbeat,
    LocalWork,
    Message,
    RebirthCommand,
    RoundManifest,
    TrainCommand,
    Trouble,
    Want,
    dump,
    parse,
)

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "messages.json").read_text())
OBJECTS = ("bundle", "model", "base", "delta", "plan", "history")
DIGESTS = {name: letter * 64 for name, letter in zip(OBJECTS, "abcdef", strict=True)}
PARSERS: dict[str, Callable[[bytes], Message]] = {
    "birth": partial(parse, DEVICE_STATE),
    "death": partial(parse, DEVICE_STATE),
    "heartbeat": partial(parse, DEVICE_EVENT),
    "want": partial(parse, DEVICE_EVENT),
    "evaluated": partial(parse, DEVICE_EVENT),
    "trouble": partial(parse, DEVICE_EVENT),
    "coordinator": partial(parse, COORDINATOR_STATE),
    "round": partial(parse, ROUND_MANIFEST),
    "train": partial(parse, COMMAND),
    "evaluate": partial(parse, COMMAND),
    "cancel": partial(parse, COMMAND),
    "rebirth": partial(parse, COMMAND),
}
MESSAGES: dict[str, Message] = {
    "birth": Birth(connection=7, agent="0.1.0", profile="flower"),
    "death": Death(connection=7),
    "heartbeat": Heartbeat(phase="training", sent_bytes=1200, received_bytes=34_000, peak_rss_bytes=50 << 20),
    "want": Want(digest=DIGESTS["model"]),
    "evaluated": Evaluated(run="watch", server_round=3, loss=0.25, correct=70, examples=80),
    "trouble": Trouble(code="data_error", text="data.csv: no such file", run="watch", server_round=3),
    "coordinator": CoordinatorState(online=True, epoch="5f2a"),
    "round": RoundManifest(
        run="watch",
        server_round=3,
        bundle=BlobRef(digest=DIGESTS["bundle"], size=90_000),
        model=BlobRef(digest=DIGESTS["model"], size=400_000),
        base=DIGESTS["base"],
        delta=BlobRef(digest=DIGESTS["delta"], size=900, offset=0),
        history=BlobRef(digest=DIGESTS["history"], size=77),
        plan=BlobRef(digest=DIGESTS["plan"], size=60, offset=900),
        work=LocalWork(steps=40, batch_size=16, learning_rate=0.05, momentum=0.9, codec="sieve", seed=11),
    ),
    "train": TrainCommand(run="watch", server_round=3, seconds=120.0, history="9f2c41aa"),
    "evaluate": EvaluateCommand(run="watch", server_round=3, seconds=60.0),
    "cancel": CancelCommand(run="watch"),
    "rebirth": RebirthCommand(),
}


def test_every_kind_has_a_golden_message() -> None:
    assert GOLDEN.keys() == MESSAGES.keys() == PARSERS.keys()


@pytest.mark.parametrize("kind", sorted(MESSAGES))
def test_golden_message_keeps_its_bytes_and_comes_back(kind: str) -> None:
    assert dump(MESSAGES[kind]).decode() == GOLDEN[kind]
    assert PARSERS[kind](GOLDEN[kind].encode()) == MESSAGES[kind]


@pytest.mark.parametrize("kind", sorted(MESSAGES))
def test_truncation_at_every_offset_is_refused(kind: str) -> None:
    payload = dump(MESSAGES[kind])
    for length in range(len(payload)):
        with pytest.raises(MessageError):
            PARSERS[kind](payload[:length])


@pytest.mark.parametrize("kind", sorted(MESSAGES))
def test_field_of_a_newer_version_is_ignored(kind: str) -> None:
    payload = json.dumps(json.loads(GOLDEN[kind]) | {"from_the_future": 1}).encode()
    assert PARSERS[kind](payload) == MESSAGES[kind]


@given(st.binary(max_size=80) | st.recursive(st.none() | st.text(max_size=5) | st.integers(), st.lists, max_leaves=5))
def test_any_bytes_are_a_message_error(content: object) -> None:
    payload = content if isinstance(content, bytes) else json.dumps(content).encode()
    for parser in PARSERS.values():
        with pytest.raises(MessageError):
            parser(payload)


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(MessageError):
        parse(COMMAND, b"[" * 30_000)


def test_oversize_message_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(MessageError, match="at most"):
        parse(COMMAND, b" " * LARGEST_MESSAGE_BYTES + b'{"kind":"rebirth"}')


def test_unknown_kind_is_refused() -> None:
    with pytest.raises(MessageError, match="kind"):
        parse(COMMAND, b'{"kind":"reboot"}')


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        ("train", "run", "../etc"),
        ("train", "run", "a" * 33),
        ("train", "server_round", "3"),
        ("train", "server_round", 1_000_001),
        ("train", "server_round", True),
        ("train", "seconds", 0),
        ("train", "history", "9F2C41AA"),
        ("train", "history", "9f2c41aa00"),
        ("train", "seconds", 1e9),
        ("birth", "connection", -1),
        ("birth", "profile", "other"),
        ("want", "digest", "A" * 64),
        ("want", "digest", "a" * 63),
        ("evaluated", "loss", "NaN"),
        ("trouble", "text", "a" * 501),
        ("trouble", "code", "other"),
        ("round", "bundle", {"digest": "a" * 64, "size": 0}),
        ("round", "model", {"digest": "a" * 64, "size": 1 << 40}),
        ("round", "delta", {"digest": "a" * 64, "size": 5, "offset": -1}),
        ("round", "history", {"digest": "f" * 64, "size": 0}),
        ("round", "work", {}),
    ],
)
def test_value_out_of_bounds_is_refused_by_name(kind: str, field: str, value: object) -> None:
    payload = json.dumps(json.loads(GOLDEN[kind]) | {field: value}).encode()
    with pytest.raises(MessageError, match=field):
        PARSERS[kind](payload)


def test_loss_that_is_not_a_number_is_refused() -> None:
    with pytest.raises(MessageError, match="loss"):
        parse(DEVICE_EVENT, GOLDEN["evaluated"].replace("0.25", "NaN").encode())


def test_work_for_another_optimizer_has_no_momentum_so_that_older_agents_refuse_it() -> None:
    work = json.loads(GOLDEN["round"])["work"]
    adam = {key: value for key, value in work.items() if key != "momentum"} | {"optimizer": "adam", "beta2": 0.99}
    payload = json.dumps(json.loads(GOLDEN["round"]) | {"work": adam}).encode()
    manifest = parse(ROUND_MANIFEST, payload)
    assert (manifest.work.optimizer, manifest.work.momentum, manifest.work.beta2) == ("adam", None, 0.99)
    assert b"momentum" not in dump(manifest)


@pytest.mark.parametrize(
    "work",
    [{"optimizer": "adam"}, {"momentum": None}, {"momentum": 0.0, "nesterov": True}, {"optimizer": "lion"}],
    ids=["adam with momentum", "sgd without", "nesterov without", "unknown"],
)
def test_work_that_fits_no_optimizer_is_refused(work: dict[str, object]) -> None:
    whole = json.loads(GOLDEN["round"])
    with pytest.raises(MessageError, match="work"):
        parse(ROUND_MANIFEST, json.dumps(whole | {"work": whole["work"] | work}).encode())
