"""Tables of situations and what the device does about them."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edge_client.actions import (
    Action,
    CheckBundle,
    DropBundle,
    ForgetRun,
    KeepUploadDays,
    Note,
    SendHeartbeat,
    Settle,
    SubmitOrder,
    Subscribe,
)
from edge_client.consent import Consent
from edge_client.gate import Decision, Hindrance, Readiness
from edge_client.orders import (
    Answer,
    EvaluateOrder,
    Failed,
    NeedModel,
    Order,
    PrivacySpent,
    Scored,
    Trained,
    TrainOrder,
    failed,
)
from edge_client.outbox import Recovered, StatePaths
from edge_client.pending import PendingUpdate
from edge_client.policy import Policy
from edge_client.presence import Identity
from edge_client.session import Limits, Session
from shared.delta_chain import LARGEST_HISTORY_BYTES, Link, Step, pack_chain, pack_history
from shared.frame import MOST_OVERHEAD_BYTES, FrameKind, unpack_frame
from shared.messages import (
    DEVICE_EVENT,
    DEVICE_STATE,
    Birth,
    BlobRef,
    CancelCommand,
    CoordinatorState,
    DeclineReason,
    EvaluateCommand,
    Evaluated,
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
from shared.sender import LONGEST_SILENCE_SECONDS, SLOW_LINK_BYTES_PER_SECOND
from shared.signing import SigningKey, seal
from shared.topics import Topics
from shared.transfer import Open, Status, id_of
from shared.transport import Connected, Disconnected, Publication, Received, Subscribed
from shared.update import base_tag
from shared.varint import write_varint
from shared.verdicts import Verdict

A = TypeVar("A")

KEY, STRANGER = SigningKey(bytes(32)), SigningKey(bytes([1]) * 32)
TOPICS = Topics()
ME = "board-1"
BUNDLE, MODEL, DELTA, PLAN = b"bundle" * 30, b"model" * 100, b"delta", b"plan"
BASE = hashlib.sha256(b"model before").hexdigest()
WORK = LocalWork(steps=3, batch_size=8, learning_rate=0.1, momentum=0.9, codec="partition", seed=1)
PATHS = StatePaths(Path("state"))


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def blob(content: bytes, offset: int | None = None) -> BlobRef:
    return BlobRef(digest=digest(content), size=len(content), offset=offset)


MISSED = [b"delta that was missed %d" % number for number in range(3)]
"""Earlier deltas; the last of them leads to `BASE`."""
PAST = [digest(b"model long before %d" % number) for number in range(3)]
HISTORY = pack_history([Step(base_tag(base), blob(delta)) for base, delta in zip(PAST, MISSED, strict=True)])


def manifest(
    server_round: int = 1, run: str = "a", *, bundle: bytes = BUNDLE, history: bytes = HISTORY
) -> RoundManifest:
    return RoundManifest(
        run=run,
        server_round=server_round,
        bundle=blob(bundle),
        model=blob(MODEL),
        base=BASE,
        delta=blob(DELTA, 0),
        history=blob(history),
        plan=blob(PLAN, len(DELTA)),
        work=WORK,
    )


def model_of(server_round: int) -> str:
    """Digest of the model that a later round begins with."""
    return digest(b"model %d" % server_round)


def delta_of(server_round: int) -> bytes:
    return b"delta of round %d" % server_round


def link_of(server_round: int) -> tuple[str, bytes]:
    return model_of(server_round - 1), delta_of(server_round)


def later_manifest(server_round: int, history: bytes = b"") -> RoundManifest:
    """A round with no plan, whose delta of `delta_of` is all that is attached."""
    return RoundManifest(
        run="a",
        server_round=server_round,
        bundle=blob(BUNDLE),
        model=BlobRef(digest=model_of(server_round), size=9000),
        base=model_of(server_round - 1),
        delta=blob(delta_of(server_round), 0),
        history=blob(history) if history else None,
        work=WORK,
    )


def train(server_round: int = 1, run: str = "a", seconds: float = 100.0) -> TrainCommand:
    return TrainCommand(run=run, server_round=server_round, seconds=seconds)


class Bench:
    """A session with its clock; methods feed one input and return the actions."""

    def __init__(
        self,
        recovered: Recovered = Recovered(frozenset({digest(BUNDLE)})),  # noqa: B008 - frozen
        policy: Policy = Policy(),  # noqa: B008 - frozen
    ) -> None:
        self.now = 0.0
        self.unix_seconds = 1_800_000_000.0
        self.consent = Consent(policy, {}, lambda: self.unix_seconds)
        identity = Identity(ME, TOPICS, 7, "test")
        limits = Limits(65536, 10_000, 30.0)
        self.session = Session(identity, (KEY.verify_key,), PATHS, recovered, limits, lambda: 0.0, self.consent)

    def connect(self, *, granted: bool = True) -> list[Action]:
        actions = self.session.on_event(Connected(261_120), self.now)
        if granted:
            [asked] = [action for action in actions if isinstance(action, Subscribe)]
            actions += self.session.on_event(Subscribed(asked.filters), self.now)
        return actions

    def receive(self, topic: str, payload: bytes) -> list[Action]:
        return self.session.on_event(Received(topic, payload, retained=False), self.now)

    def say(self, topic: str, body: bytes, key: SigningKey = KEY) -> list[Action]:
        return self.receive(topic, seal(key, topic, body))

    def command(self, command: Message) -> list[Action]:
        return self.say(TOPICS.command(ME), dump(command))

    def open(self, opened: RoundManifest, attachment: bytes = DELTA + PLAN) -> list[Action]:
        text = dump(opened)
        return self.say(TOPICS.round_manifest(opened.run), write_varint(len(text)) + text + attachment)

    def serve(self, actions: list[Action], *objects: bytes) -> list[Action]:
        """Answer subscriptions to these objects until none is left; all that was done, from `actions` on."""
        topics = {TOPICS.blob_chunk(digest(content), 0): content for content in objects}
        done = list(actions)
        while wanted := [topic for topic in subscriptions(actions) if topic in topics]:
            actions = self.receive(wanted[0], topics[wanted[0]])
            done += actions
        return done

    def rule(self, content: bytes, verdict: Verdict, reason: str = "", *, recorded: bool = True) -> list[Action]:
        """Give a verdict, and the word of whether it was recorded."""
        status = Status(id_of(content), verdict, reason=reason)
        actions = self.receive(TOPICS.download(ME), status.pack())
        for settle in of_kind(actions, Settle):
            actions += self.session.on_settled(settle.run, settle.server_round, recorded, self.now)
        return actions

    def trained(self, order: TrainOrder) -> list[Action]:
        return self.answer(trained_by(order), update_of(order.run, order.server_round))

    def answer(self, answer: Answer, update: PendingUpdate | None = None) -> list[Action]:
        return self.session.on_answer(answer, update, self.now)

    def feel(self, *hindrances: Hindrance) -> list[Action]:
        """The board's sensors were read, with this result."""
        return self.session.on_condition(Decision(hindrances), self.now)

    def wait(self, seconds: float) -> list[Action]:
        self.now += seconds
        return self.session.tick(self.now)


@pytest.fixture
def bench() -> Bench:
    ready = Bench()
    ready.connect()
    return ready


def content_of(run: str, server_round: int) -> bytes:
    return f"update {run} {server_round}".encode()


def update_of(run: str, server_round: int) -> PendingUpdate:
    return PendingUpdate(run, server_round, digest(MODEL), 3, content_of(run, server_round))


def trained_by(order: Order) -> Trained:
    return Trained(run=order.run, server_round=order.server_round, object_bytes=9, steps=3, model=order.target)


def files_of(actions: list[Action]) -> dict[str, bytes]:
    [submitted] = of_kind(actions, SubmitOrder)
    return {str(path): content for path, content in submitted.files.items()}


def orders(actions: list[Action]) -> list[Order]:
    return [action.order for action in actions if isinstance(action, SubmitOrder)]


def train_order(actions: list[Action]) -> TrainOrder:
    [order] = orders(actions)
    assert isinstance(order, TrainOrder)
    return order


def uploads(actions: list[Action]) -> list[bytes]:
    """The bodies of WHOLE frames and the digests of OPEN frames that are sent."""
    frames = [unpack_frame(a.payload) for a in actions if isinstance(a, Publication) and a.topic == TOPICS.upload(ME)]
    return [f.body if f.kind is FrameKind.WHOLE else Open.unpack(f.body).digest for f in frames]


def reports(actions: list[Action]) -> list[Message]:
    return [
        parse(DEVICE_EVENT, action.payload)
        for action in actions
        if isinstance(action, Publication) and action.topic == TOPICS.device_event(ME)
    ]


def topics_of(*objects: bytes) -> list[str]:
    """Where the first chunks of published objects are."""
    return [TOPICS.blob_chunk(digest(content), 0) for content in objects]


def chain(*links: tuple[str, bytes]) -> bytes:
    return pack_chain([Link(base_tag(base), frame) for base, frame in links])


def births(actions: list[Action]) -> list[Message]:
    topic = TOPICS.device_state(ME)
    return [parse(DEVICE_STATE, a.payload) for a in actions if isinstance(a, Publication) and a.topic == topic]


def subscriptions(actions: list[Action]) -> list[str]:
    return [name for action in actions if isinstance(action, Subscribe) for name in action.filters]


def of_kind(actions: list[Action], kind: type[A]) -> list[A]:
    return [action for action in actions if isinstance(action, kind)]


def uploading(bench: Bench, server_round: int = 1) -> bytes:
    """Take the bench through a round up to its upload."""
    bench.open(manifest(server_round))
    bench.trained(train_order(bench.command(train(server_round))))
    return content_of("a", server_round)


def test_birth_follows_the_grant_of_the_last_topic() -> None:
    bench = Bench()
    asked = subscriptions(bench.connect(granted=False))
    assert not births(bench.session.on_event(Subscribed(tuple(asked[:-1])), 0.0))
    assert births(bench.session.on_event(Subscribed((asked[-1],)), 0.0)) == [Birth(connection=7, agent="test")]


def test_topics_that_are_not_granted_are_asked_for_again() -> None:
    bench = Bench()
    asked = subscriptions(bench.connect(granted=False))
    bench.session.on_event(Subscribed(tuple(asked[1:])), 0.0)
    assert subscriptions(bench.wait(15)) == [asked[0]]


@pytest.mark.parametrize("manifest_first", [True, False])
def test_manifest_and_command_in_either_order_start_training(bench: Bench, manifest_first: bool) -> None:
    steps: list[Callable[[], list[Action]]] = [lambda: bench.open(manifest()), lambda: bench.command(train())]
    first, second = steps if manifest_first else reversed(steps)
    assert not orders(first())
    actions = second()
    order = train_order(actions)
    assert (order.run, order.server_round, order.target) == ("a", 1, digest(MODEL))
    assert order.seconds == pytest.approx(90)
    assert files_of(actions) == {order.chain: chain((BASE, DELTA)), order.plan: PLAN}
    assert order.model is None
    assert bench.session.phase == "training"


def test_repeated_command_while_training_orders_nothing_more(bench: Bench) -> None:
    bench.open(manifest())
    train_order(bench.command(train()))
    assert not orders(bench.command(train()) + bench.open(manifest()) + bench.wait(1))


def test_trained_update_is_uploaded_and_settled_when_done(bench: Bench) -> None:
    bench.open(manifest())
    order = train_order(bench.command(train()))
    assert uploads(bench.trained(order)) == [content_of("a", 1)]
    assert bench.session.phase == "uploading"
    assert of_kind(bench.rule(content_of("a", 1), Verdict.DONE), Settle) == [Settle("a", 1, accepted=True)]
    assert bench.session.phase == "idle"


@pytest.mark.parametrize("verdict", [v for v in Verdict if v.is_final])
def test_final_verdict_settles_as_accepted_only_where_the_round_counts(bench: Bench, verdict: Verdict) -> None:
    content = uploading(bench)
    accepted = verdict in (Verdict.DONE, Verdict.DUPLICATE)
    assert of_kind(bench.rule(content, verdict, "because"), Settle) == [Settle("a", 1, accepted)]
    assert bench.session.phase == "idle"


def test_verdict_that_cannot_be_recorded_is_asked_for_again_without_haste(bench: Bench) -> None:
    content = uploading(bench)
    bench.open(manifest(2))
    bench.command(train(2))
    assert not orders(bench.rule(content, Verdict.DONE, recorded=False))
    assert bench.session.phase == "waiting for the last update's verdict"
    assert not uploads(bench.wait(59))
    assert uploads(bench.wait(1)) == [content]
    assert train_order(bench.rule(content, Verdict.DONE)).server_round == 2


def test_verdict_that_cannot_be_recorded_is_asked_for_over_a_new_link(bench: Bench) -> None:
    content = uploading(bench)
    bench.rule(content, Verdict.DONE, recorded=False)
    bench.session.on_event(Disconnected("cable"), 0.0)
    assert uploads(bench.connect()) == [content]


def test_verdict_recorded_after_the_cancel_leaves_no_trace(bench: Bench) -> None:
    uploading(bench)
    bench.command(CancelCommand(run="a"))
    bench.session.on_settled("a", 1, True, bench.now)
    bench.open(manifest())
    assert orders(bench.command(train()))


@pytest.mark.parametrize("verdict", [v for v in Verdict if not v.is_final])
def test_verdict_that_is_not_final_settles_nothing(bench: Bench, verdict: Verdict) -> None:
    content = uploading(bench)
    assert not of_kind(bench.rule(content, verdict), Settle)
    assert uploads(bench.wait(100)) == [content]


def test_repeated_command_after_done_does_nothing(bench: Bench) -> None:
    bench.rule(uploading(bench), Verdict.DONE)
    actions = bench.command(train()) + bench.open(manifest()) + bench.wait(1000)
    assert not orders(actions)
    assert not uploads(actions)


def test_verdict_on_other_bytes_is_ignored(bench: Bench) -> None:
    uploading(bench)
    assert not of_kind(bench.rule(b"something else", Verdict.DONE), Settle)


def test_reconnect_in_the_middle_of_an_upload_offers_it_again(bench: Bench) -> None:
    content = uploading(bench)
    bench.session.on_event(Disconnected("cable"), 0.0)
    assert not uploads(bench.wait(100))
    assert uploads(bench.connect()) == [content]


def test_trained_while_offline_is_uploaded_after_the_reconnect(bench: Bench) -> None:
    bench.open(manifest())
    order = train_order(bench.command(train()))
    bench.session.on_event(Disconnected("cable"), 0.0)
    assert not uploads(bench.trained(order))
    assert uploads(bench.connect()) == [content_of("a", 1)]


def test_update_left_by_an_earlier_life_is_offered_at_the_first_connection() -> None:
    bench = Bench(Recovered(unsettled=(update_of("a", 4),)))
    assert uploads(bench.connect()) == [content_of("a", 4)]


def test_round_settled_by_an_earlier_life_is_not_trained_again() -> None:
    bench = Bench(Recovered(frozenset({digest(BUNDLE)}), settled_rounds=(("a", 4),)))
    bench.connect()
    bench.open(manifest(4))
    assert not orders(bench.command(train(4)))
    bench.open(manifest(5))
    assert orders(bench.command(train(5)))


def test_next_round_waits_for_the_verdict_on_the_last_update(bench: Bench) -> None:
    content = uploading(bench)
    bench.open(manifest(2))
    assert not orders(bench.command(train(2)))
    assert bench.session.phase == "waiting for the last update's verdict"
    assert train_order(bench.rule(content, Verdict.STALE_ROUND)).server_round == 2


def test_newer_round_while_training_uploads_the_older_update_first(bench: Bench) -> None:
    bench.open(manifest(1))
    first = train_order(bench.command(train(1)))
    assert not orders(bench.open(manifest(2)) + bench.command(train(2)))
    assert bench.session.phase == "waiting for the trainer"
    actions = bench.trained(first)
    assert uploads(actions) == [content_of("a", 1)]
    assert not orders(actions)
    assert train_order(bench.rule(content_of("a", 1), Verdict.STALE_ROUND)).server_round == 2


def test_newer_command_supersedes_one_that_waits(bench: Bench) -> None:
    bench.command(train(1))
    bench.command(train(2))
    assert not orders(bench.open(manifest(1)))
    assert train_order(bench.open(manifest(2))).server_round == 2


def test_older_command_does_not_disturb_a_newer_one(bench: Bench) -> None:
    bench.command(train(2))
    bench.command(train(1))
    assert not orders(bench.open(manifest(1)))
    assert train_order(bench.open(manifest(2))).server_round == 2


def test_manifest_of_a_newer_round_ends_an_older_assignment(bench: Bench) -> None:
    bench.command(train(1))
    bench.open(manifest(2))
    assert bench.session.phase == "idle"


def test_new_coordinator_epoch_asks_for_birth_and_a_new_offer(bench: Bench) -> None:
    content = uploading(bench)

    def state(epoch: str, *, online: bool = True) -> list[Action]:
        return bench.say(TOPICS.coordinator_state(), dump(CoordinatorState(online=online, epoch=epoch)))

    assert not births(state("one") + state("one") + state("one", online=False) + state("one"))
    actions = state("two")
    assert births(actions) == [Birth(connection=7, agent="test")]
    assert uploads(actions) == [content]


def test_rebirth_command_is_answered_by_birth(bench: Bench) -> None:
    assert births(bench.command(RebirthCommand()))


def test_cancel_drops_the_run_and_sends_a_last_heartbeat(bench: Bench) -> None:
    uploading(bench)
    actions = bench.command(CancelCommand(run="a"))
    assert ForgetRun("a") in actions
    assert SendHeartbeat("idle") in actions
    assert not uploads(bench.wait(100))


def test_answer_that_comes_after_the_cancel_is_forgotten(bench: Bench) -> None:
    bench.open(manifest())
    order = train_order(bench.command(train()))
    bench.command(CancelCommand(run="a"))
    actions = bench.trained(order)
    assert ForgetRun("a") in actions
    assert not uploads(actions)


def test_cancel_of_another_run_changes_nothing(bench: Bench) -> None:
    bench.open(manifest())
    order = train_order(bench.command(train()))
    bench.command(CancelCommand(run="b"))
    assert uploads(bench.trained(order))


def test_deadline_that_passes_is_reported_with_what_was_waited_for(bench: Bench) -> None:
    bench.command(train(seconds=10))
    assert bench.session.next_wake() == 10
    [trouble] = reports(bench.wait(10))
    assert isinstance(trouble, Trouble)
    assert (trouble.code, trouble.run, trouble.server_round) == ("not_eligible", "a", 1)
    assert "10 s passed while waiting for the round manifest" in trouble.text
    assert not orders(bench.open(manifest()))


def test_repeated_command_moves_the_deadline_later_but_never_earlier(bench: Bench) -> None:
    bench.command(train(seconds=10))
    bench.wait(9)
    bench.command(train(seconds=100))
    bench.command(train(seconds=5))
    assert not reports(bench.wait(99))
    assert bench.session.next_wake() == 109
    assert train_order(bench.open(manifest())).seconds == pytest.approx(0.9)


def test_update_finished_after_its_deadline_is_still_offered(bench: Bench) -> None:
    bench.open(manifest())
    order = train_order(bench.command(train(seconds=10)))
    bench.wait(11)
    assert uploads(bench.trained(order)) == [content_of("a", 1)]


@pytest.mark.parametrize(
    "payload",
    [
        dump(train()),
        seal(STRANGER, TOPICS.command(ME), dump(train())),
        seal(KEY, TOPICS.command("board-2"), dump(train())),
        seal(KEY, TOPICS.command(ME), dump(train()))[:-1] + b"\0",
        seal(KEY, TOPICS.command(ME), b'{"kind":"explode"}'),
        b"\xff" * 50,
    ],
    ids=["unsigned", "stranger", "other device", "altered", "unknown kind", "noise"],
)
def test_command_that_cannot_be_trusted_is_reported_once_a_minute_and_ignored(bench: Bench, payload: bytes) -> None:
    bench.open(manifest())
    first, second = (bench.receive(TOPICS.command(ME), payload) for _ in range(2))
    assert not orders(first + second)
    assert [report.code for report in reports(first) if isinstance(report, Trouble)] == ["wrong_message"]
    assert not reports(second)
    bench.now += 60
    assert reports(bench.receive(TOPICS.command(ME), payload))


def test_manifest_on_another_runs_topic_is_refused(bench: Bench) -> None:
    text = dump(manifest(run="b"))
    actions = bench.say(TOPICS.round_manifest("a"), write_varint(len(text)) + text + DELTA + PLAN)
    assert [report.code for report in reports(actions) if isinstance(report, Trouble)] == ["wrong_message"]


def test_manifest_with_another_attachment_than_announced_is_refused(bench: Bench) -> None:
    text = dump(manifest())
    bench.command(train())
    actions = bench.say(TOPICS.round_manifest("a"), write_varint(len(text)) + text + b"DELTA" + PLAN)
    assert reports(actions)
    assert not orders(actions)


def test_cleared_manifest_is_no_complaint(bench: Bench) -> None:
    assert not reports(bench.receive(TOPICS.round_manifest("a"), b""))


def test_bundle_is_fetched_checked_and_then_used() -> None:
    bench = Bench(Recovered())
    bench.connect()
    bench.open(manifest())
    topic = TOPICS.blob_chunk(digest(BUNDLE), 0)
    assert topic in subscriptions(bench.command(train()))
    assert bench.session.phase == "fetching the bundle"
    assert of_kind(bench.receive(topic, BUNDLE), CheckBundle) == [CheckBundle(digest(BUNDLE), BUNDLE)]
    assert not orders(bench.wait(1))
    assert train_order(bench.session.on_bundle(digest(BUNDLE), None, bench.now))


def test_blob_that_stays_away_is_wanted() -> None:
    bench = Bench(Recovered())
    bench.connect()
    bench.open(manifest())
    bench.command(train())
    assert bench.session.next_wake() == 5
    assert reports(bench.wait(5)) == [Want(digest=digest(BUNDLE))]


def test_refused_bundle_is_reported_until_another_manifest_comes() -> None:
    bench = Bench(Recovered())
    bench.connect()
    bench.open(manifest())
    bench.command(train())
    bench.receive(TOPICS.blob_chunk(digest(BUNDLE), 0), BUNDLE)
    for actions in (bench.session.on_bundle(digest(BUNDLE), "not signed", 0.0), bench.command(train())):
        [trouble] = reports(actions)
        assert isinstance(trouble, Trouble)
        assert (trouble.code, trouble.text) == ("bundle_refused", "not signed")
    bench.open(manifest(2))
    assert subscriptions(bench.command(train(2)))


def test_bundle_above_the_limit_is_refused_before_it_is_fetched(bench: Bench) -> None:
    bench.open(manifest(bundle=b"x" * 10_001))
    actions = bench.command(train())
    assert [report.code for report in reports(actions) if isinstance(report, Trouble)] == ["bundle_refused"]
    assert not subscriptions(actions)


def test_bundle_that_the_trainer_refuses_is_dropped_and_fetched_anew(bench: Bench) -> None:
    bench.open(manifest())
    bench.command(train())
    actions = bench.answer(Failed(run="a", server_round=1, code="bundle_refused", text="damaged"))
    assert DropBundle(digest(BUNDLE)) in actions
    assert subscriptions(bench.command(train()))


def test_trainer_without_the_base_gets_the_whole_model(bench: Bench) -> None:
    bench.open(manifest())
    bench.command(train())
    topic = TOPICS.blob_chunk(digest(MODEL), 0)
    assert topic in subscriptions(bench.answer(NeedModel(run="a", server_round=1)))
    assert bench.session.phase == "fetching the model"
    actions = bench.receive(topic, MODEL)
    order = train_order(actions)
    assert order.chain is None
    assert files_of(actions) == {order.model: MODEL, order.plan: PLAN}


@pytest.mark.parametrize("lag", [1, 2, 3])
def test_trainer_that_lags_gets_the_deltas_since_its_model_and_no_others(bench: Bench, lag: int) -> None:
    bench.open(manifest())
    bench.command(train())
    actions = bench.answer(NeedModel(run="a", server_round=1, held=PAST[-lag]))
    assert bench.session.phase == "fetching the history of deltas"
    actions = bench.serve(actions, HISTORY, *MISSED)
    assert subscriptions(actions) == topics_of(HISTORY, *MISSED[-lag:])
    order, missed = train_order(actions), zip(PAST[-lag:], MISSED[-lag:], strict=True)
    assert files_of(actions) == {order.chain: chain(*missed, (BASE, DELTA)), order.plan: PLAN}
    assert order.model is None


@pytest.mark.parametrize("held", [None, digest(b"model of another age")])
def test_trainer_with_no_model_of_the_history_gets_the_whole_one_and_no_delta(bench: Bench, held: str | None) -> None:
    bench.open(manifest())
    bench.command(train())
    actions = bench.answer(NeedModel(run="a", server_round=1, held=held))
    actions = bench.serve(actions, HISTORY, MODEL, *MISSED)
    assert subscriptions(actions) == (topics_of(HISTORY) if held else []) + topics_of(MODEL)
    assert files_of(actions)[str(train_order(actions).model)] == MODEL


def test_deltas_that_do_not_lead_to_the_model_make_room_for_the_whole_one(bench: Bench) -> None:
    bench.open(manifest())
    bench.command(train())
    lagging = NeedModel(run="a", server_round=1, held=PAST[-1])
    assert train_order(bench.serve(bench.answer(lagging), HISTORY, *MISSED)).chain
    actions = bench.serve(bench.answer(lagging), HISTORY, MODEL, *MISSED)
    assert subscriptions(actions) == topics_of(MODEL)
    assert train_order(actions).chain is None


@pytest.mark.parametrize(
    "history",
    [
        b"\x02" + HISTORY[1:],
        HISTORY[:-1],
        HISTORY[:1] + HISTORY[1:38] * 513,
        pack_history([Step(base_tag(PAST[0]), BlobRef(digest="a" * 64, size=1 << 31))]),
        pack_history([Step(base_tag(PAST[0]), BlobRef(digest="a" * 64, size=len(MODEL) - len(DELTA)))]),
    ],
    ids=["unknown version", "cut", "endless", "huge delta", "as long as the model"],
)
def test_history_that_is_of_no_use_makes_room_for_the_whole_model(bench: Bench, history: bytes) -> None:
    bench.session._shelf._largest_object_bytes = 1 << 20
    bench.open(manifest(history=history))
    bench.command(train())
    actions = bench.answer(NeedModel(run="a", server_round=1, held=PAST[0]))
    actions = bench.serve(actions, history, MODEL, *MISSED)
    assert subscriptions(actions) == topics_of(history, MODEL)
    assert train_order(actions).model


def test_history_above_its_bound_is_not_fetched(bench: Bench) -> None:
    bench.open(manifest(history=b"h" * (LARGEST_HISTORY_BYTES + 1)))
    bench.command(train())
    assert subscriptions(bench.answer(NeedModel(run="a", server_round=1, held=PAST[0]))) == topics_of(MODEL)


def test_deltas_that_are_together_above_the_devices_limit_are_not_fetched(bench: Bench) -> None:
    bench.session._shelf._largest_object_bytes = len(HISTORY) + 1
    history = pack_history([Step(base_tag(PAST[0]), BlobRef(digest="a" * 64, size=len(HISTORY)))])
    bench.open(manifest(history=history).model_copy(update={"model": BlobRef(digest="b" * 64, size=1 << 30)}))
    bench.command(train())
    actions = bench.answer(NeedModel(run="a", server_round=1, held=PAST[0]))
    [trouble] = reports(bench.serve(actions, history))
    assert isinstance(trouble, Trouble)
    assert "the model of 1073741824 bytes is above largest_bundle_bytes" in trouble.text


def test_device_that_was_not_asked_applies_what_it_heard_without_fetching(bench: Bench) -> None:
    for server_round in (1, 2, 3):
        opened = later_manifest(server_round)
        bench.open(opened, delta_of(server_round))
    actions = bench.command(train(3))
    heard = [link_of(n) for n in (1, 2, 3)]
    assert files_of(actions) == {train_order(actions).chain: chain(*heard)}
    bench.trained(train_order(actions))
    bench.rule(content_of("a", 3), Verdict.DONE)
    bench.open(later_manifest(4), delta_of(4))
    actions = bench.command(train(4))
    assert files_of(actions) == {train_order(actions).chain: chain(link_of(4))}


def test_manifest_that_was_missed_is_the_only_delta_fetched(bench: Bench) -> None:
    for server_round in (1, 3):
        bench.open(later_manifest(server_round), delta_of(server_round))
    steps = [Step(base_tag(model_of(n - 1)), blob(delta_of(n))) for n in (1, 2, 3)]
    bench.open(later_manifest(4, history=pack_history(steps)), delta_of(4))
    actions = bench.command(train(4))
    since_the_gap = [link_of(n) for n in (3, 4)]
    assert files_of(actions) == {train_order(actions).chain: chain(*since_the_gap)}
    actions = bench.answer(NeedModel(run="a", server_round=4, held=model_of(0)))
    actions = bench.serve(actions, pack_history(steps), *map(delta_of, (1, 2, 3)))
    assert subscriptions(actions) == topics_of(pack_history(steps), delta_of(2))
    all_of_them = [link_of(n) for n in (1, 2, 3, 4)]
    assert files_of(actions) == {train_order(actions).chain: chain(*all_of_them)}


def test_manifest_that_comes_again_is_heard_once(bench: Bench) -> None:
    for _ in range(3):
        bench.open(later_manifest(1), delta_of(1))
    actions = bench.command(train(1))
    assert files_of(actions) == {train_order(actions).chain: chain(link_of(1))}


def test_older_manifest_while_the_model_is_missing_is_waited_out(bench: Bench) -> None:
    bench.open(manifest(2))
    bench.command(train(2))
    bench.open(manifest(1))
    bench.answer(NeedModel(run="a", server_round=2, held=PAST[-1]))
    assert bench.session.phase == "waiting for the round manifest"
    assert train_order(bench.open(manifest(2))).chain


def test_history_without_a_delta_is_refused(bench: Bench) -> None:
    actions = bench.open(manifest().model_copy(update={"base": None, "delta": None}))
    assert [report.code for report in reports(actions) if isinstance(report, Trouble)] == ["wrong_message"]


def test_trainer_that_lacks_the_model_it_was_given_ends_the_assignment(bench: Bench) -> None:
    bench.open(manifest())
    bench.command(train())
    bench.answer(NeedModel(run="a", server_round=1))
    bench.receive(TOPICS.blob_chunk(digest(MODEL), 0), MODEL)
    [trouble] = reports(bench.answer(NeedModel(run="a", server_round=1)))
    assert isinstance(trouble, Trouble)
    assert trouble.code == "trainer_failed"
    assert bench.session.phase == "idle"


def test_failed_training_is_reported_and_may_be_asked_for_again(bench: Bench) -> None:
    bench.open(manifest())
    bench.command(train())
    actions = bench.answer(Failed(run="a", server_round=1, code="data_error", text="no file"))
    assert reports(actions) == [Trouble(code="data_error", text="no file", run="a", server_round=1)]
    assert orders(bench.command(train()))


def test_update_left_by_a_trainer_that_failed_is_offered(bench: Bench) -> None:
    bench.open(manifest(2))
    bench.command(train(2))
    failure = Failed(run="a", server_round=2, code="trainer_failed", text="killed")
    actions = bench.answer(failure, update_of("a", 1))
    assert reports(actions)
    assert uploads(actions) == [content_of("a", 1)]


def test_update_on_its_way_is_not_offered_twice_when_an_evaluation_fails(bench: Bench) -> None:
    uploading(bench)
    bench.command(EvaluateCommand(run="a", server_round=1, seconds=10))
    failure = Failed(run="a", server_round=1, code="data_error", text="none")
    assert not uploads(bench.answer(failure, update_of("a", 1)))


def test_unreadable_update_is_reported(bench: Bench) -> None:
    bench.open(manifest())
    order = train_order(bench.command(train()))
    [trouble] = reports(bench.answer(trained_by(order), None))
    assert isinstance(trouble, Trouble)
    assert trouble.code == "trainer_failed"


def test_evaluation_is_reported_and_repeated_without_new_work(bench: Bench) -> None:
    bench.open(manifest())
    command = EvaluateCommand(run="a", server_round=1, seconds=10)
    [order] = orders(bench.command(command))
    assert isinstance(order, EvaluateOrder)
    scored = Scored(run="a", server_round=1, loss=0.5, correct=3, examples=4, model=order.target)
    expected = [Evaluated(run="a", server_round=1, loss=0.5, correct=3, examples=4)]
    assert reports(bench.answer(scored)) == expected
    again = bench.command(command)
    assert reports(again) == expected
    assert not orders(again)


def test_report_made_offline_is_sent_once_the_device_is_born_again(bench: Bench) -> None:
    bench.open(manifest())
    [order] = orders(bench.command(EvaluateCommand(run="a", server_round=1, seconds=10)))
    bench.session.on_event(Disconnected("cable"), 0.0)
    scored = Scored(run="a", server_round=1, loss=0.5, correct=3, examples=4, model=order.target)
    assert not reports(bench.answer(scored))
    assert len(reports(bench.connect())) == 1


def test_one_order_at_a_time_over_all_runs(bench: Bench) -> None:
    bench.open(manifest(run="a"))
    bench.open(manifest(run="b"))
    first = train_order(bench.command(train(run="a")))
    assert not orders(bench.command(train(run="b")))
    assert train_order(bench.trained(first)).run == "b"


def test_heartbeats_come_at_their_interval(bench: Bench) -> None:
    assert not of_kind(bench.wait(29), SendHeartbeat)
    assert of_kind(bench.wait(1), SendHeartbeat) == [SendHeartbeat("idle")]


def test_lost_link_is_noted_once(bench: Bench) -> None:
    assert bench.session.on_event(Disconnected("refused"), 0.0)
    assert not bench.session.on_event(Disconnected("refused"), 1.0)


class AnyOrder(RuleBasedStateMachine):
    """Manifests, commands, verdicts, answers, reconnects and a failing disk in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench()
        self.online = False
        self.disk_fails = False
        self.at_trainer: Order | None = None
        self.unsettled: dict[str, int] = {}
        self.done: set[bytes] = set()
        self.due: dict[tuple[str, int], float] = {}

    def see(self, actions: list[Action]) -> None:
        for sent in uploads(actions):
            assert sent not in self.done, "sent again after its final verdict"
        for action in actions:
            match action:
                case SubmitOrder(order, files):
                    assert (order.model is None) != (order.chain is None), "one way to the model"
                    assert set(map(str, files)) == {order.model or order.chain, getattr(order, "plan", None)} - {None}
                    assert self.at_trainer is None, "two orders at once"
                    assert not isinstance(order, TrainOrder) or order.run not in self.unsettled
                    if self.disk_fails:
                        self.see(self.bench.answer(failed(order, "trainer_failed", "disk full")))
                    else:
                        self.at_trainer = order
                case Settle(run, server_round):
                    assert self.unsettled[run] == server_round
                    if not self.disk_fails:
                        del self.unsettled[run]
                        self.done.add(content_of(run, server_round))
                case ForgetRun(run):
                    self.unsettled.pop(run, None)
                    self.done = {content for content in self.done if run.encode() not in content.split()}

    runs, rounds = st.sampled_from("ab"), st.integers(1, 3)

    @rule(run=runs, server_round=rounds)
    def manifest(self, run: str, server_round: int) -> None:
        self.see(self.bench.open(manifest(server_round, run)))

    @rule(run=runs, server_round=rounds, seconds=st.sampled_from([5.0, 50.0, 100.0]))
    def command(self, run: str, server_round: int, seconds: float) -> None:
        due = self.bench.now + seconds
        self.due[run, server_round] = max(due, self.due.get((run, server_round), 0.0))
        self.see(self.bench.command(train(server_round, run, seconds)))

    @rule(run=runs, server_round=rounds)
    def round_begins(self, run: str, server_round: int) -> None:
        self.manifest(run, server_round)
        self.command(run, server_round, 100.0)

    @precondition(lambda self: self.at_trainer is not None)
    @rule()
    def trained(self) -> None:
        self.answer("trained")

    @rule(run=runs)
    def cancel(self, run: str) -> None:
        self.see(self.bench.command(CancelCommand(run=run)))

    @rule(fails=st.booleans())
    def disk(self, fails: bool) -> None:
        self.disk_fails = fails

    @precondition(lambda self: self.at_trainer is not None)
    @rule(outcome=st.sampled_from(["trained", "trained", "died", "failed", "need", "lags", "lags"]))
    def answer(self, outcome: str) -> None:
        order, self.at_trainer = self.at_trainer, None
        assert order is not None
        failure = failed(order, "data_error", "x")
        if outcome in ("trained", "died"):  # died: after its commit, before its answer
            answer = trained_by(order) if outcome == "trained" else failure
            actions = self.bench.answer(answer, update_of(order.run, order.server_round))
            if ForgetRun(order.run) not in actions:
                self.unsettled[order.run] = order.server_round
        elif outcome == "failed":
            actions = self.bench.answer(failure)
        else:
            held = PAST[1] if outcome == "lags" else None
            actions = self.bench.answer(NeedModel(run=order.run, server_round=order.server_round, held=held))
        self.see(actions)

    @precondition(lambda self: self.online)
    @rule(run=runs, server_round=rounds, verdict=st.sampled_from(Verdict))
    def verdict(self, run: str, server_round: int, verdict: Verdict) -> None:
        content = content_of(run, server_round)
        self.see(self.bench.rule(content, verdict, recorded=not self.disk_fails))

    @precondition(lambda self: self.online and self.unsettled)
    @rule(disk_fails=st.booleans(), verdict=st.sampled_from([Verdict.DONE, Verdict.STALE_ROUND]))
    def final_verdict(self, disk_fails: bool, verdict: Verdict) -> None:
        self.disk_fails = disk_fails
        run, server_round = min(self.unsettled.items())
        self.verdict(run, server_round, verdict)

    @rule(content=st.sampled_from([MODEL, HISTORY, *MISSED]))
    def object_arrives(self, content: bytes) -> None:
        self.see(self.bench.receive(TOPICS.blob_chunk(digest(content), 0), content))

    @precondition(lambda self: self.online)
    @rule()
    def lose_link(self) -> None:
        self.online = False
        self.see(self.bench.session.on_event(Disconnected("x"), self.bench.now))

    @initialize()
    def first_connection(self) -> None:
        self.connect()

    @precondition(lambda self: not self.online)
    @rule()
    def connect(self) -> None:
        self.online = True
        actions = self.bench.connect()
        self.see(actions)
        offered = {content_of(run, server_round) for run, server_round in self.unsettled.items()}
        assert offered == set(uploads(actions)), "a new link offers every unsettled update"

    @rule(seconds=st.sampled_from([1.0, 10.0, 120.0]))
    def time_passes(self, seconds: float) -> None:
        self.see(self.bench.wait(seconds))

    @invariant()
    def every_assignment_ends_when_its_commands_said(self) -> None:
        wake = self.bench.session.next_wake()
        for assignment in self.bench.session._worklist.assignments:
            assert self.bench.now < assignment.deadline <= self.due[assignment.run, assignment.server_round]
            assert wake <= assignment.deadline

    @invariant()
    def every_unsettled_update_is_asked_about(self) -> None:
        for run, server_round in self.unsettled.items():
            assert self.bench.session._results.owed_round(run) == server_round
        if self.online and self.unsettled:
            frame_bytes = MOST_OVERHEAD_BYTES + max(len(content_of(*update)) for update in self.unsettled.items())
            longest = LONGEST_SILENCE_SECONDS + frame_bytes / SLOW_LINK_BYTES_PER_SECOND  # silence begins once it left
            assert self.bench.session._results.next_wake() <= self.bench.now + longest


AnyOrder.TestCase.settings = hypothesis_settings(max_examples=100, stateful_step_count=50, deadline=None)
TestAnyOrder = AnyOrder.TestCase


def strict(**fields: object) -> Bench:
    """A bench that is ready, with a policy."""
    bench = Bench(policy=Policy.model_validate(fields))
    bench.connect()
    return bench


def declined(actions: list[Action]) -> Trouble:
    [trouble] = reports(actions)
    assert isinstance(trouble, Trouble)
    assert trouble.code == "not_eligible"
    return trouble


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"allowed_jobs": ["other*"]}, "job"),
        ({"allowed_signers": [STRANGER.verify_key.hex]}, "signer"),
        ({"most_steps": 2}, "steps"),
    ],
)
def test_command_against_the_policy_is_declined_before_anything_is_fetched(
    fields: dict[str, object], reason: str
) -> None:
    bench = strict(**fields)
    bench.open(manifest(bundle=b"another bundle"))
    actions = bench.command(train())
    assert declined(actions).reason == reason
    assert not subscriptions(actions)
    assert not orders(actions)
    assert bench.session.phase == "idle"
    assert not reports(bench.wait(200))


def test_device_that_declined_a_round_takes_the_next_one_it_agrees_to() -> None:
    bench = strict(most_steps=3)
    bench.open(manifest().model_copy(update={"work": WORK.model_copy(update={"steps": 4})}))
    assert declined(bench.command(train())).text == "4 steps are above most_steps = 3"
    bench.open(manifest(2))
    assert train_order(bench.command(train(2))).server_round == 2


def test_evaluation_is_declined_where_the_figures_stay() -> None:
    bench = strict(report={"loss": False})
    bench.open(manifest())
    assert declined(bench.command(EvaluateCommand(run="a", server_round=1, seconds=9))).reason == "report"
    assert not train_order(bench.command(train())).rules.report_loss


def test_what_the_trainer_declines_is_reported_with_its_reason(bench: Bench) -> None:
    bench.open(manifest())
    order = train_order(bench.command(train()))
    trouble = declined(bench.answer(failed(order, "not_eligible", "too often", DeclineReason.EPOCHS)))
    assert (trouble.reason, trouble.text) == ("epochs", "too often")


PRIVACY = {"clip_norm": 1.0, "noise_multiplier": 2.0}


def test_failure_of_a_private_device_tells_nothing_of_its_data_but_to_its_own_log() -> None:
    bench = strict(privacy=PRIVACY)
    bench.open(manifest())
    order = train_order(bench.command(train()))
    actions = bench.answer(failed(order, "data_error", "heart.csv: label 3 at row 7"))
    [trouble] = reports(actions)
    assert isinstance(trouble, Trouble)
    assert (trouble.code, trouble.text) == ("data_error", "the device's own log says more")
    assert any("label 3 at row 7" in note.text for note in of_kind(actions, Note))


def test_cost_of_privacy_is_in_the_log() -> None:
    bench = strict(privacy=PRIVACY)
    bench.open(manifest())
    order = train_order(bench.command(train()))
    assert order.rules.privacy is not None
    spent = PrivacySpent(rounds=4, epsilon=1.25, delta=1e-5)
    actions = bench.answer(trained_by(order).model_copy(update={"privacy": spent}), update_of("a", 1))
    notes = " ".join(note.text for note in of_kind(actions, Note))
    assert "clipped to 1, noise of sigma 2; privacy spent in 4 rounds: epsilon 1.25 at delta 1e-05" in notes


ONE_UPDATE = 60
"""More than one update of the bench takes on the wire, and less than two."""


def test_update_beyond_the_bytes_of_the_day_waits_and_the_coordinator_is_told() -> None:
    bench = strict(upload_bytes_a_day=ONE_UPDATE)
    content = uploading(bench)
    bench.rule(content, Verdict.DONE)
    bench.open(manifest(2))
    actions = bench.command(train(2))
    trouble = declined(actions)
    assert trouble.reason == "upload_bytes"
    assert "until midnight UTC" in trouble.text
    assert not orders(actions)
    bench.unix_seconds += 86_400
    bench.open(manifest(3))
    assert orders(bench.command(train(3)))


def test_frames_beyond_the_bytes_of_the_day_are_not_sent_until_the_next_day() -> None:
    bench = strict(upload_bytes_a_day=ONE_UPDATE // 3)
    bench.open(manifest())
    actions = bench.trained(train_order(bench.command(train())))
    assert not uploads(actions)
    assert declined(actions).reason == "upload_bytes"
    assert not uploads(bench.wait(600))
    bench.consent._uploads.limit_bytes = ONE_UPDATE  # as if the owner had raised it
    assert uploads(bench.wait(600)) == [content_of("a", 1)]


def test_bytes_of_the_day_are_kept_before_they_are_sent() -> None:
    bench = strict(upload_bytes_a_day=1000)
    bench.open(manifest())
    actions = bench.trained(train_order(bench.command(train())))
    kinds = [type(action) for action in actions if isinstance(action, KeepUploadDays | Publication)]
    assert kinds == [KeepUploadDays, Publication]
    [kept] = of_kind(actions, KeepUploadDays)
    assert list(kept.days.values()) == [1000 - bench.consent.left]


def test_without_a_limit_nothing_is_counted(bench: Bench) -> None:
    bench.open(manifest())
    assert not of_kind(bench.trained(train_order(bench.command(train()))), KeepUploadDays)


HOT = Hindrance("heat", Readiness.WAIT, "the board has 80 °C")
UNPLUGGED = Hindrance("mains", Readiness.STOP, "the board runs on battery")


def test_hot_board_holds_a_command_until_it_has_cooled(bench: Bench) -> None:
    bench.feel(HOT)
    bench.open(manifest())
    assert not orders(bench.command(train()))
    assert bench.session.phase == "waiting until the board may work"
    assert train_order(bench.feel()).server_round == 1


def test_hot_board_fetches_what_it_will_need() -> None:
    bench = Bench(Recovered())
    bench.connect()
    bench.feel(HOT)
    bench.open(manifest())
    assert subscriptions(bench.command(train())) == topics_of(BUNDLE)


def test_board_that_stays_hot_says_so_when_the_time_is_over(bench: Bench) -> None:
    bench.feel(HOT)
    bench.open(manifest())
    bench.command(train(seconds=50))
    trouble = declined(bench.wait(50))
    assert trouble.reason == "condition"
    assert trouble.text == "50 s passed while waiting until the board may work: the board has 80 °C"


def test_board_that_stops_declines_at_once(bench: Bench) -> None:
    bench.feel(UNPLUGGED, HOT)
    bench.open(manifest())
    trouble = declined(bench.command(train()))
    assert (trouble.reason, trouble.text) == ("condition", "the board runs on battery; the board has 80 °C")
    assert bench.session.phase == "idle"


def test_board_that_stops_declines_what_it_was_still_fetching(bench: Bench) -> None:
    bench.open(manifest(bundle=b"another bundle"))
    bench.command(train())
    assert declined(bench.feel(UNPLUGGED)).reason == "condition"


def test_board_that_stops_while_it_trains_still_uploads(bench: Bench) -> None:
    bench.open(manifest())
    order = train_order(bench.command(train()))
    assert not reports(bench.feel(UNPLUGGED))
    assert uploads(bench.trained(order)) == [content_of("a", 1)]


def test_change_of_condition_is_told_once(bench: Bench) -> None:
    assert len(of_kind(bench.feel(HOT), SendHeartbeat)) == 1
    hotter = Hindrance("heat", Readiness.WAIT, "the board has 82 °C")
    assert not bench.feel(hotter)
    assert bench.session.condition.reasons == ("the board has 82 °C",)
    assert of_kind(bench.feel(hotter, UNPLUGGED), SendHeartbeat)
    assert of_kind(bench.feel(), SendHeartbeat)
    assert not bench.feel()


def test_condition_is_told_again_over_a_new_link_and_to_a_new_coordinator(bench: Bench) -> None:
    bench.feel(HOT)
    bench.session.on_event(Disconnected("cable"), bench.now)
    assert not of_kind(bench.feel(UNPLUGGED), SendHeartbeat)
    assert len(of_kind(bench.connect(), SendHeartbeat)) == 1
    assert len(of_kind(bench.command(RebirthCommand()), SendHeartbeat)) == 1


def test_recovery_while_the_link_was_down_is_told_when_it_is_back(bench: Bench) -> None:
    bench.feel(UNPLUGGED)
    bench.session.on_event(Disconnected("cable"), bench.now)
    assert not of_kind(bench.feel(), SendHeartbeat)
    assert len(of_kind(bench.connect(), SendHeartbeat)) == 1


def test_log_says_why_training_ended_early(bench: Bench) -> None:
    bench.open(manifest())
    order = train_order(bench.command(train()))
    actions = bench.answer(trained_by(order).model_copy(update={"ended_by": "heat"}), update_of("a", 1))
    assert any("trained 3 steps and was ended by heat" in note.text for note in of_kind(actions, Note))


def test_counts_of_labels_are_kept_for_heartbeats(bench: Bench) -> None:
    bench.open(manifest())
    order = train_order(bench.command(train()))
    bench.answer(trained_by(order).model_copy(update={"label_counts": (4, 0, 7)}), update_of("a", 1))
    assert bench.session.label_counts == (4, 0, 7)
