"""Every error gradsieve raises on purpose.

    GradsieveError
    ├── SettingsError          a setting, job or policy file is wrong: fix the file
    ├── DataError              local training data is missing or unusable
    ├── BundleError            a bundle is unsigned, altered, too big or not allowed
    ├── ExportError            a torch module cannot be exported to a training graph
    ├── TransportError
    │   ├── BrokerUnreachable  nothing answers at the broker's address
    │   ├── PublishRefused     the broker's access rules deny the topic
    │   └── PayloadTooLarge    a payload is above the limit the broker announced
    ├── RemoteError            what the other end sent is wrong: refuse it, keep running
    │   ├── FrameError         not a frame of ours, truncated, wrong version or checksum
    │   ├── DecodeError        a codec frame does not fit the layout and plan
    │   ├── MessageError       a control message is malformed, oversize or of an unknown kind
    │   ├── DigestMismatch     content does not have the digest it was announced with
    │   └── SignatureError     unsigned, altered, or signed by a key that is not trusted
    ├── DeadlineExceeded       a wait ended; the text says what was waited for
    ├── RunError               a run cannot start, continue or resume
    ├── FolderInUse            another process works in the folder
    ├── TrainerError           the trainer process failed; the text says how
    └── Declined               the device's owner does not agree; the text says to what

`RemoteError` means their fault, everything else ours or the operator's. Each text names the thing and the remedy.
"""


class GradsieveError(Exception):
    """Root of every error raised on purpose; `exit_code` is what a command line ends with."""

    exit_code = 1


class SettingsError(GradsieveError):
    """A settings, job or policy file is wrong; the text names file and key."""

    exit_code = 78


class DataError(GradsieveError):
    """Local data is missing or unusable; the text names the file."""

    exit_code = 66


class BundleError(GradsieveError):
    """A training bundle is unsigned, altered, too big, or uses what is not allowed."""

    exit_code = 65


class ExportError(GradsieveError):
    """A torch module cannot become a training graph; the text names the operator and the model's line."""

    exit_code = 65


class TransportError(GradsieveError):
    """Publishing or subscribing failed."""

    exit_code = 69


class BrokerUnreachable(TransportError):
    """Nothing answers at the broker's address within the deadline."""


class PublishRefused(TransportError):
    """The broker's access rules deny a topic."""


class PayloadTooLarge(TransportError):
    """A payload is above the limit that the broker announced."""


class RemoteError(GradsieveError):
    """What the other end sent is wrong: refuse it and keep running."""

    exit_code = 65


class FrameError(RemoteError):
    """Bytes are not a frame of ours, or are truncated, of another version, or fail their checksum."""


class DecodeError(RemoteError):
    """A codec frame does not fit the layout and plan it is decoded with."""


class MessageError(RemoteError):
    """A control message is malformed, oversize, or of an unknown kind."""


class DigestMismatch(RemoteError):
    """Content does not have the digest that it was announced with."""


class SignatureError(RemoteError):
    """A message or bundle is unsigned, altered, or signed by a key that is not trusted."""


class DeadlineExceeded(GradsieveError):
    """A wait ended without its event; the text says what was waited for and for how long."""

    exit_code = 75


class RunError(GradsieveError):
    """A run cannot start, continue or resume; the text says why and what to do."""

    exit_code = 70


class FolderInUse(GradsieveError):
    """Another process works in the folder, and two would spoil each other's files; the text names both."""

    exit_code = 75


class TrainerError(GradsieveError):
    """The trainer process ended without an answer; the text says how it ended."""

    exit_code = 70


class Declined(GradsieveError):
    """A device does not do what it was asked, by its owner's policy; `reason` names the rule, the text says more."""

    exit_code = 77

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(text)
        self.reason = reason
