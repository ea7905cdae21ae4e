"""Where an update becomes durable: admitted, journaled, and only then acknowledged."""

import hashlib
import logging
from collections.abc import Iterator, Sequence

from coordinator.admission import Admission, Admitted
from coordinator.journal import Journal
from shared.errors import RemoteError, RunError
from shared.update import UpdateObject, run_tag
from shared.verdicts import Ruling, Verdict

log = logging.getLogger(__name__)


ANOTHER_RUN_SECONDS = 60


class Intake:
    """Takes the updates of one open round at a time; a device that answered is not waited for any more.

    One lock guards it: the link's, held by every caller.
    """

    def __init__(self, journal: Journal, run: str) -> None:
        self._journal = journal
        self._run = run
        self._round = 0
        self._cohort: frozenset[str] = frozenset()
        self._admission: Admission | None = None
        self._accepted: set[str] = set()
        self._refused: dict[str, Ruling] = {}
        self._owners: dict[str, str] = {}
        self.frozen = False

    def open(self, server_round: int, cohort: Sequence[str], admission: Admission | None) -> None:
        """Begin to take updates of a round, those in the journal first; without `admission` it is frozen already."""
        self._round, self._cohort, self._admission = server_round, frozenset(cohort), admission
        self.frozen = admission is None
        self._owners = {u.digest: u.device for u in self._journal.updates(self._run, server_round)}
        self._accepted = set(self._owners.values())
        self._refused = {}

    def take(self, device: str, content: bytes) -> Ruling:
        """The verdict on an uploaded object; DONE only after the journal has committed it."""
        digest = hashlib.sha256(content).hexdigest()
        try:
            ruling = self._judge(device, content, digest)
            if ruling.verdict is not Verdict.DONE and ruling.verdict is not Verdict.RETRY_AFTER:
                self._refuse(device, content, digest, ruling)
        except RunError as error:
            log.error("%s", error)
            return Ruling(Verdict.RETRY_AFTER, "the coordinator cannot store updates now")
        return ruling

    def note_trouble(self, text: str) -> None:
        """Keep a line for the operator; where the journal cannot be written, the log has it."""
        try:
            self._journal.note(self._run, "trouble", text)
        except RunError as error:
            log.error("%s", error)

    def _refuse(self, device: str, content: bytes, digest: str, ruling: Ruling) -> None:
        self._journal.refuse(self._run, self._round, device, ruling, digest, len(content))
        log.warning("refused an update of %s: %s %s", device, ruling.verdict.name.lower(), ruling.reason)
        if ruling.verdict not in (Verdict.STALE_ROUND, Verdict.DUPLICATE):
            self._refused[device] = ruling

    def _judge(self, device: str, content: bytes, digest: str) -> Ruling:
        if self._journal.holds(self._run, device, digest):
            return Ruling(Verdict.DONE)
        if _made_for_another_run(content, self._run):
            return Ruling(Verdict.RETRY_AFTER, "made for another run, which alone may rule on it", ANOTHER_RUN_SECONDS)
        if self._admission is None and not self.frozen:
            return Ruling(Verdict.RETRY_AFTER, "this coordinator has not opened a round yet")
        if self._admission is None:
            return Ruling(Verdict.STALE_ROUND, f"round {self._round} is closed")
        if device not in self._cohort:
            return Ruling(Verdict.REFUSED, f"{device} was not asked to train in round {self._round}")
        if (owner := self._owners.get(digest, device)) != device:
            return Ruling(Verdict.REFUSED, f"the very bytes that {owner} sent: a device must send its own update")
        admitted = self._admission.judge(device, content)
        if not isinstance(admitted, Admitted):
            return admitted
        ruling = self._journal.accept(self._run, self._round, device, content, admitted.facts)
        if ruling.verdict is Verdict.DONE:
            self._owners[digest] = device
            self._accepted.add(device)
        return ruling

    def refusal(self, device: str) -> str:
        """Why a device's update of this round was refused for good; empty when it was not."""
        ruling = self._refused.get(device)
        return ruling.reason if ruling and device not in self._accepted else ""

    @property
    def count(self) -> int:
        """Updates of the open round in the journal."""
        return len(self._accepted)

    def has(self, device: str) -> bool:
        """True when a device's update of the open round is in the journal."""
        return device in self._accepted

    def freeze(self) -> None:
        """Take no more updates of the open round: what is in the journal now is what counts."""
        self._journal.freeze_round(self._run, self._round)
        self._admission, self.frozen = None, True

    def contents(self) -> Iterator[tuple[str, bytes]]:
        """Device and update object, in order of device name, one at a time."""
        return self._journal.accepted(self._run, self._round)


def _made_for_another_run(content: bytes, run: str) -> bool:
    """True for an update object of another run; what is no update object at all is for admission to refuse."""
    try:
        return UpdateObject.unpack(content).header.run_tag != run_tag(run)
    except RemoteError:
        return False
