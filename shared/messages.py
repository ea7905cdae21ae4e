"""Every JSON control message, as frozen models in tagged unions, and the bounded way in and out of bytes.

Unknown fields are ignored (a newer minor version may add some); unknown kinds, wrong types and oversize payloads are
`MessageError`. Binary objects (updates, models, plans) never travel here: see `frame.py`.
"""

from enum import StrEnum
from typing import Annotated, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from shared.errors import MessageError

LARGEST_MESSAGE_BYTES = 32 * 1024
LONGEST_FAULT = 200
LARGEST_BLOB_BYTES = 1 << 31
PROTOCOL_MINOR = 1
LONGEST_REASON = 160
MOST_REASONS = 8


def one_line(text: str) -> str:
    """`text` as a log may show it: line breaks, terminal codes and whatever else does not print become spaces."""
    return "".join(char if char.isprintable() else " " for char in text)


Line = Annotated[str, AfterValidator(one_line)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
RunId = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]
Round = Annotated[int, Field(ge=0, le=1_000_000)]
Count = Annotated[int, Field(ge=0, le=1 << 53)]
HistoryTag = Annotated[str, Field(pattern=r"^[0-9a-f]{8}$")]
ReasonText = Annotated[Line, Field(max_length=LONGEST_REASON)]
LabelCounts = Annotated[tuple[Count, ...], Field(max_length=256)]
ReasonName = Annotated[str, Field(pattern=r"^[a-z_]{1,32}$")]
Seconds = Annotated[float, Field(gt=0, le=7 * 24 * 3600, allow_inf_nan=False)]


class Message(BaseModel):
    """Root of the control messages: frozen, strict types, unknown fields ignored."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", defer_build=True)


class Birth(Message):
    """A device is online and ready for commands; published after its subscriptions were granted."""

    kind: Literal["birth"] = "birth"
    connection: Count
    agent: Annotated[Line, Field(max_length=64)]
    minor: Count = PROTOCOL_MINOR
    profile: Literal["sieve", "flower"] = "sieve"


class Death(Message):
    """A device is gone: its will, or a clean leave; ignored when older than the last birth."""

    kind: Literal["death"] = "death"
    connection: Count


class Heartbeat(Message):
    """A device is alive; counters are totals since the agent started.

    `readiness` says whether it may work now: `wait` means that commands are held, `stop` that they are declined, for
    these `reasons` in plain words. `label_counts`, the training examples of each class of the task it trained last, are
    there where its policy tells them.
    """

    kind: Literal["heartbeat"] = "heartbeat"
    phase: Annotated[Line, Field(max_length=40)]
    sent_bytes: Count
    received_bytes: Count
    tcp_sent_bytes: Count | None = None
    tcp_received_bytes: Count | None = None
    peak_rss_bytes: Count = 0
    trainer_peak_rss_bytes: Count = 0
    readiness: Literal["go", "wait", "stop"] = "go"
    reasons: Annotated[tuple[ReasonText, ...], Field(max_length=MOST_REASONS)] = ()
    label_counts: LabelCounts = ()


class Want(Message):
    """A device lacks an object that a manifest names, and asks for it to be published."""

    kind: Literal["want"] = "want"
    digest: Digest


class Evaluated(Message):
    """How a model does on a device's own test data; `correct` is null where labels are no classes."""

    kind: Literal["evaluated"] = "evaluated"
    run: RunId
    server_round: Round
    loss: Annotated[float, Field(allow_inf_nan=False)]
    correct: Count | None
    examples: Count


class DeclineReason(StrEnum):
    """Why a device does not do what it could: its owner's policy, or its condition."""

    JOB = "job"
    SIGNER = "signer"
    STEPS = "steps"
    EPOCHS = "epochs"
    UPLOAD_BYTES = "upload_bytes"
    REPORT = "report"
    PRIVACY = "privacy"
    CONDITION = "condition"


class Trouble(Message):
    """A device cannot do what it was asked, or declines it for a `reason`; it stays connected.

    `reason` is a `DeclineReason`, and comes with `not_eligible`; a newer device may have other reasons.
    """

    kind: Literal["trouble"] = "trouble"
    code: Literal["data_error", "bundle_refused", "trainer_failed", "not_eligible", "wrong_message"]
    text: Annotated[Line, Field(max_length=500)]
    run: RunId | None = None
    server_round: Round | None = None
    reason: ReasonName | None = None

    def __str__(self) -> str:
        """As the coordinator's log and journal show it."""
        return f"declines ({self.reason}): {self.text}" if self.reason else f"reports {self.code}: {self.text}"


class CoordinatorState(Message):
    """Whether a coordinator is online; a new epoch asks every device for a new birth."""

    kind: Literal["coordinator"] = "coordinator"
    online: bool
    epoch: Annotated[str, Field(max_length=32)]
    minor: Count = PROTOCOL_MINOR


class BlobRef(Message):
    """A published object: content digest and length. `offset` is its place in the manifest's attachment, if inline."""

    digest: Digest
    size: Annotated[int, Field(ge=1, le=LARGEST_BLOB_BYTES)]
    offset: Annotated[int, Field(ge=0, le=1 << 20)] | None = None


class LocalWork(Message):
    """What every device of a round does: steps of an optimiser that starts anew, and how its update is sieved.

    `momentum` and `nesterov` are of `sgd`, `beta1`, `beta2` and `epsilon` of `adam`. With `proximal_mu` each gradient
    gets FedProx's term; with `clip_norm`, one of a greater Euclidean norm is then scaled down to it. `weight_decay` is
    L2, or with `decoupled_decay` that of AdamW. With `evaluate`, a device first scores the model as received on its
    own test data.

    Work for `adam` has no `momentum`: a device that knows `sgd` alone requires one, and so refuses the round.
    """

    steps: Annotated[int, Field(ge=1, le=1_000_000)]
    batch_size: Annotated[int, Field(ge=1, le=65_536)]
    learning_rate: Annotated[float, Field(gt=0, le=1e3, allow_inf_nan=False)]
    optimizer: Literal["sgd", "adam"] = "sgd"
    momentum: Annotated[float, Field(ge=0, lt=1)] | None = None
    nesterov: bool = False
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    epsilon: Annotated[float, Field(gt=0, le=1)] = 1e-8
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.0
    decoupled_decay: bool = False
    clip_norm: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    proximal_mu: Annotated[float, Field(ge=0, le=1e3, allow_inf_nan=False)] = 0.0
    codec: Annotated[str, Field(max_length=24)]
    seed: Count
    evaluate: bool = False

    @model_validator(mode="after")
    def _momentum_belongs_to_sgd(self) -> Self:
        if (self.momentum is None) == (self.optimizer == "sgd"):
            raise ValueError("momentum belongs to sgd, which needs one, and to no other optimizer")
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs sgd with a momentum above 0")
        return self


class RoundManifest(Message):
    """The open round of a run: which model, how a device gets there, and the work; signed and retained.

    A device that holds `base` applies `delta`; one that holds an earlier model finds in `history` the deltas that lead
    to `base`; any other fetches `model` whole. `plan` is the sieve's plan.
    """

    kind: Literal["round"] = "round"
    run: RunId
    server_round: Round
    bundle: BlobRef
    model: BlobRef
    base: Digest | None = None
    delta: BlobRef | None = None
    history: BlobRef | None = None
    plan: BlobRef | None = None
    work: LocalWork


class TrainCommand(Message):
    """Train in a round and upload within `seconds` of arrival.

    `history` is the tag of the device's sends as the coordinator has them: an update may be sieved by that history if
    the device has the same. Without it the round's prior does not use one.
    """

    kind: Literal["train"] = "train"
    run: RunId
    server_round: Round
    seconds: Seconds
    history: HistoryTag | None = None


class EvaluateCommand(Message):
    """Evaluate a round's model on local test data and report within `seconds` of arrival."""

    kind: Literal["evaluate"] = "evaluate"
    run: RunId
    server_round: Round
    seconds: Seconds


class CancelCommand(Message):
    """Drop everything of a run: it ended or was aborted."""

    kind: Literal["cancel"] = "cancel"
    run: RunId


class RebirthCommand(Message):
    """State yourself again: the coordinator does not know you."""

    kind: Literal["rebirth"] = "rebirth"


Command = Annotated[TrainCommand | EvaluateCommand | CancelCommand | RebirthCommand, Field(discriminator="kind")]
DeviceState = Annotated[Birth | Death, Field(discriminator="kind")]
DeviceEvent = Annotated[Heartbeat | Want | Evaluated | Trouble, Field(discriminator="kind")]

M = TypeVar("M", bound=Message)

LATER = ConfigDict(defer_build=True)
"""Built when first used: a trainer never reads most kinds."""
COMMAND: TypeAdapter[TrainCommand | EvaluateCommand | CancelCommand | RebirthCommand] = TypeAdapter(
    Command, config=LATER
)
DEVICE_STATE: TypeAdapter[Birth | Death] = TypeAdapter(DeviceState, config=LATER)
DEVICE_EVENT: TypeAdapter[Heartbeat | Want | Evaluated | Trouble] = TypeAdapter(DeviceEvent, config=LATER)
COORDINATOR_STATE: TypeAdapter[CoordinatorState] = TypeAdapter(CoordinatorState)
ROUND_MANIFEST: TypeAdapter[RoundManifest] = TypeAdapter(RoundManifest)


def dump(message: Message) -> bytes:
    """Compact JSON; fields at their default are left out, except the kind."""
    text = message.model_dump_json(exclude_defaults=True)
    kind = type(message).model_fields.get("kind")
    if kind is None:
        return text.encode()
    head = f'{{"kind":"{kind.default}"'
    return (head + ("," if text != "{}" else "") + text[1:]).encode()


def parse(adapter: "TypeAdapter[M]", payload: bytes) -> M:
    """The message in `payload`; raises `MessageError` with the field at fault."""
    if len(payload) > LARGEST_MESSAGE_BYTES:
        raise MessageError(f"control message of {len(payload)} bytes: at most {LARGEST_MESSAGE_BYTES} are accepted")
    try:
        return adapter.validate_json(payload)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "message"
        raise MessageError(f"control message: {field}: {one_line(first['msg'])[:LONGEST_FAULT]}") from None
