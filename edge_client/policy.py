"""What a device's owner agrees to, in a file of the device's own: the coordinator can ask for more, and is declined.

Nothing here comes over the network or from the environment: the file alone counts.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from edge_client.orders import LocalRules, PrivacyTerms
from edge_client.quiet_hours import QuietHours
from shared.messages import DeclineReason, LocalWork
from shared.settings import load_settings

RUN_SUFFIX = re.compile(r"-[0-9a-f]{6}$")
"""What a coordinator adds to a job's name to make a run's id."""


def _span(text: str) -> str:
    QuietHours.parse(text)
    return text


Hours = Annotated[str, AfterValidator(_span)]
SignerHex = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


@dataclass(frozen=True, slots=True)
class Objection:
    """Why a command is declined: the reason's name for programs, and in plain words with what would be allowed."""

    reason: DeclineReason
    text: str


class PolicyPart(BaseModel):
    """Root of the policy's tables: frozen; unknown keys, infinities and NaN rejected."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)


class ReportPolicy(PolicyPart):
    """Which figures may leave the device beside the sieved update."""

    loss: bool | None = Field(None, description="mean training loss; none: yes, unless there is [privacy]")
    accuracy: bool | None = Field(None, description="how many test windows were right; none: likewise")
    examples: bool | None = Field(None, description="how many examples there are; none: likewise")
    label_counts: bool = Field(False, description="how many examples each class has")


class PrivacyPolicy(PolicyPart):
    """Local differential privacy: what every update goes through before the sieve."""

    clip_norm: float = Field(gt=0, description="largest Euclidean norm of an update before noise")
    noise_multiplier: float = Field(gt=0, description="standard deviation of the noise, as a multiple of clip_norm")
    delta: float = Field(1e-5, gt=0, lt=1, description="delta at which epsilon is computed")
    largest_epsilon: float | None = Field(None, gt=0, description="total epsilon above which nothing more is trained")


class Policy(PolicyPart):
    """A device's policy, from a TOML file; the default allows what a trusted coordinator asks."""

    allowed_jobs: tuple[str, ...] = Field(("*",), description="patterns of names of jobs to work for")
    allowed_signers: tuple[SignerHex, ...] = Field((), description="keys that may sign rounds; empty: all trusted ones")
    most_steps: int | None = Field(None, ge=1, description="largest number of steps in a round")
    most_epochs: float | None = Field(None, gt=0, description="largest number of passes over the local data in a round")
    upload_bytes_a_day: int | None = Field(None, ge=1, description="most bytes of updates on a day in UTC")
    quiet_hours: tuple[Hours, ...] = Field((), description="spans of local time without training, such as 22:00-06:30")
    report: ReportPolicy = ReportPolicy()
    privacy: PrivacyPolicy | None = Field(None, description="noise on every update; absent means none")

    @model_validator(mode="after")
    def _private_figures_stay(self) -> Self:
        """Exact figures of the local data beside a noised update would undo what the noise is for."""
        report = self.report
        told = [name for name in type(report).model_fields if getattr(report, name)]
        if self.privacy is not None and told:
            raise ValueError(f"report.{told[0]} tells of the data without noise: it cannot be true beside [privacy]")
        return self

    @property
    def rules(self) -> LocalRules:
        """What the trainer must keep to."""
        private, report = self.privacy is not None, self.report
        terms = PrivacyTerms.model_validate(self.privacy.model_dump()) if self.privacy else None
        return LocalRules(
            most_epochs=self.most_epochs,
            report_loss=not private if report.loss is None else report.loss,
            report_accuracy=not private if report.accuracy is None else report.accuracy,
            report_examples=not private if report.examples is None else report.examples,
            report_label_counts=report.label_counts,
            privacy=terms,
        )

    def is_quiet(self, minute: int) -> QuietHours | None:
        """The span of quiet hours that covers minute `minute` of the local day, or None."""
        spans = map(QuietHours.parse, self.quiet_hours)
        return next((span for span in spans if span.covers(minute)), None)

    def objection(self, run: str, signer: str, work: LocalWork | None) -> Objection | None:
        """Why a round of `run`, signed by the key `signer`, is declined, or None; without `work` it only evaluates."""
        job = RUN_SUFFIX.sub("", run)
        if not _matches(job, self.allowed_jobs):
            return Objection(DeclineReason.JOB, f"job {job} is none of allowed_jobs: {', '.join(self.allowed_jobs)}")
        if self.allowed_signers and signer not in self.allowed_signers:
            return Objection(DeclineReason.SIGNER, f"key {signer[:8]}… that signed the round is not in allowed_signers")
        if work is None and not (self.rules.report_loss and self.rules.report_accuracy):
            return Objection(DeclineReason.REPORT, "loss and accuracy stay on the device")
        if work is not None and self.most_steps is not None and work.steps > self.most_steps:
            return Objection(DeclineReason.STEPS, f"{work.steps} steps are above most_steps = {self.most_steps}")
        return None


def _matches(job: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(job, pattern) for pattern in patterns)


def load_policy(file: Path | None) -> Policy:
    """The policy in a TOML file, the default without one; raises `SettingsError` naming file and key."""
    return load_settings(Policy, file, "", environment={})
