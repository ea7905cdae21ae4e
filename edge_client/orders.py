"""What the agent orders from its trainer and what the trainer answers: one JSON line each, large things as files."""

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from shared.messages import (
    LATER,
    Count,
    DeclineReason,
    Digest,
    HistoryTag,
    LabelCounts,
    LocalWork,
    Message,
    Round,
    RunId,
    Seconds,
    dump,
)

LONGEST_TEXT = 500
FilePath = Annotated[str, Field(min_length=1, max_length=4096)]
TroubleCode = Literal["data_error", "bundle_refused", "trainer_failed", "not_eligible", "wrong_message"]


class PrivacyTerms(Message):
    """Clip an update to `clip_norm`, add Gaussian noise of `noise_multiplier` times that, and account for it.

    Nothing is trained that would take the total epsilon, at `delta`, above `largest_epsilon`.
    """

    clip_norm: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    noise_multiplier: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    delta: Annotated[float, Field(gt=0, lt=1)]
    largest_epsilon: Annotated[float, Field(gt=0)] | None = None

    @property
    def sigma(self) -> float:
        """Standard deviation of the noise, in units of the model's weights."""
        return self.clip_norm * self.noise_multiplier


class LocalRules(Message):
    """What the device's own policy asks of the trainer, whatever the coordinator wants.

    Above `hottest_celsius` training ends.
    """

    most_epochs: Annotated[float, Field(gt=0)] | None = None
    report_loss: bool = True
    report_accuracy: bool = True
    report_examples: bool = True
    report_label_counts: bool = False
    privacy: PrivacyTerms | None = None
    hottest_celsius: float | None = None


class ModelOrder(Message):
    """What both orders share: the round's public model and the way there.

    `bundle` is the verified archive. `model` is a file with the whole model; `chain` one with the deltas that lead to
    `target`, see `shared.delta_chain`. With neither, the trainer must hold `target` already.
    """

    run: RunId
    server_round: Round
    bundle: FilePath
    model: FilePath | None = None
    chain: FilePath | None = None
    target: Digest
    seconds: Seconds
    rules: LocalRules = LocalRules()


class TrainOrder(ModelOrder):
    """Train from `target`, sieve the update by `plan` (a file; none: the frame pays for its own partition), commit it.

    With `evaluate`, the received model is scored on the local test windows first. `history` is the coordinator's tag of
    this device's sends; None: the sieve uses no history.
    """

    kind: Literal["train"] = "train"
    device: str
    plan: FilePath | None = None
    work: LocalWork
    evaluate: bool = False
    history: HistoryTag | None = None


class EvaluateOrder(ModelOrder):
    """Score `target` on the local test windows."""

    kind: Literal["evaluate"] = "evaluate"


class Answered(Message):
    """What all answers share; `peak_rss_bytes` is the trainer process's own peak so far, 0 where it has none."""

    run: RunId
    server_round: Round
    peak_rss_bytes: Count = 0


class PrivacySpent(Message):
    """What all noised updates of this device so far have cost: `epsilon` at `delta`, over `rounds` rounds."""

    rounds: Count
    epsilon: Annotated[float, Field(ge=0)]
    delta: float


class Trained(Answered):
    """The update lies committed in pending.bin, trained from `model` in `steps` steps; `object_bytes` are to upload.

    `privacy` is there where the update was noised; `ended_by` where the steps are fewer than those ordered;
    `label_counts`, the training examples of each class, where the policy lets them leave the device.
    """

    kind: Literal["trained"] = "trained"
    object_bytes: Count
    steps: Count
    model: Digest
    privacy: PrivacySpent | None = None
    label_counts: LabelCounts = ()
    ended_by: Literal["time", "heat"] | None = None


class Scored(Answered):
    """How `model` does on the local test windows: mean loss, and `correct` of `examples` where labels are classes."""

    kind: Literal["scored"] = "scored"
    loss: Annotated[float, Field(allow_inf_nan=False)]
    correct: Count | None
    examples: Count
    model: Digest


class Failed(Answered):
    """The order could not be carried out; nothing was committed, unless the trainer ended before it could tell.

    With a `reason` it was declined.
    """

    kind: Literal["failed"] = "failed"
    code: TroubleCode
    text: Annotated[str, Field(max_length=LONGEST_TEXT)]
    reason: DeclineReason | None = None


class NeedModel(Answered):
    """The trainer cannot get to `target` from the model that it holds: order again with all deltas since, or whole."""

    kind: Literal["need_model"] = "need_model"
    held: Digest | None = None


Order = TrainOrder | EvaluateOrder
Answer = Trained | Scored | Failed | NeedModel

ORDER: TypeAdapter[TrainOrder | EvaluateOrder] = TypeAdapter(
    Annotated[Order, Field(discriminator="kind")], config=LATER
)
ANSWER: TypeAdapter[Trained | Scored | Failed | NeedModel] = TypeAdapter(
    Annotated[Answer, Field(discriminator="kind")], config=LATER
)


def to_line(message: Order | Answer) -> bytes:
    """The message as one line, with its line feed."""
    return dump(message) + b"\n"


def failed(order: Order, code: TroubleCode, text: str, reason: DeclineReason | None = None) -> Failed:
    """The answer that `order` failed, its text cut to what a trouble event carries."""
    return Failed(run=order.run, server_round=order.server_round, code=code, text=text[:LONGEST_TEXT], reason=reason)
