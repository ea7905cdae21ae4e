"""Ed25519 keys in files, and sealed messages: a signature over topic and body, then the body."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from shared.errors import FrameError, SettingsError, SignatureError
from shared.frame import FrameKind, pack_frame, unpack_frame

SIGNATURE_BYTES = 64
KEY_BYTES = 32


@dataclass(frozen=True)
class VerifyKey:
    """The public half of a key: 32 bytes."""

    raw: bytes

    @property
    def hex(self) -> str:
        """64 hex digits, as in files and bundles."""
        return self.raw.hex()

    @classmethod
    def from_hex(cls, text: str) -> Self:
        """The key of 64 hex digits; raises `ValueError`."""
        raw = bytes.fromhex(text.strip())
        if len(raw) != KEY_BYTES:
            raise ValueError(f"a key is {2 * KEY_BYTES} hex digits, not {2 * len(raw)}")
        return cls(raw)

    @classmethod
    def load(cls, path: Path) -> Self:
        """The key in a text file; raises `SettingsError`."""
        return cls(_read_key(path))

    def save(self, path: Path) -> None:
        """Write the key as text that everybody may read."""
        path.write_text(f"{self.hex}\n", encoding="ascii")

    def verifies(self, signature: bytes, content: bytes) -> bool:
        """True if this key's private half signed `content`."""
        try:
            _public_key(self.raw).verify(signature, content)
        except InvalidSignature:
            return False
        return True


class SigningKey:
    """The private half of a key; `verify_key` is the public one."""

    def __init__(self, seed: bytes) -> None:
        self._seed = seed
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.verify_key = VerifyKey(self._key.public_key().public_bytes_raw())

    @classmethod
    def generate(cls) -> Self:
        """A new key from the system's randomness."""
        return cls(os.urandom(KEY_BYTES))

    @classmethod
    def load(cls, path: Path) -> Self:
        """The key in a file that only its owner, or its group, may read; raises `SettingsError`."""
        key = cls(_read_key(path))
        if path.stat().st_mode & 0o007:
            raise SettingsError(f"{path}: a private key that every user can read: chmod 600 {path}")
        return key

    def save(self, path: Path) -> None:
        """Write the 32-byte seed as hex to a new file of mode 0600; raises `SettingsError` if it exists."""
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise SettingsError(f"{path}: a key is there already: move it away to make another") from None
        with open(descriptor, "w", encoding="ascii") as file:
            file.write(f"{self._seed.hex()}\n")
            file.flush()
            os.fsync(file.fileno())

    def sign(self, content: bytes) -> bytes:
        """The 64-byte signature of `content`; the same every time."""
        return self._key.sign(content)


def seal(key: SigningKey, topic: str, body: bytes) -> bytes:
    """A SEALED frame: good on this topic and no other."""
    return pack_frame(FrameKind.SEALED, key.sign(_covered(topic, body)) + body)


def open_sealed(trusted: Sequence[VerifyKey], topic: str, payload: bytes) -> bytes:
    """The body that one of the `trusted` keys sealed for `topic`; raises `SignatureError` saying which part failed."""
    return open_signed(trusted, topic, payload)[0]


def open_signed(trusted: Sequence[VerifyKey], topic: str, payload: bytes) -> tuple[bytes, VerifyKey]:
    """What `open_sealed` gives, and whose key sealed it."""
    if not trusted:
        raise SignatureError("no trusted key is configured, so no message can be accepted: set trusted_signers")
    try:
        frame = unpack_frame(payload)
    except FrameError as error:
        raise SignatureError(f"not sealed, so anybody may have sent it: {error}") from None
    if frame.kind is not FrameKind.SEALED or len(frame.body) < SIGNATURE_BYTES:
        raise SignatureError(f"not sealed: a {frame.kind.name} frame of {len(frame.body)} bytes")
    signature, body = frame.body[:SIGNATURE_BYTES], frame.body[SIGNATURE_BYTES:]
    signer = next((key for key in trusted if key.verifies(signature, _covered(topic, body))), None)
    if signer is None:
        ours = ", ".join(f"{key.hex[:8]}…" for key in trusted[:4])
        raise SignatureError(
            f"signed by another key than the trusted {ours}, altered, or meant for another topic: "
            "give this device the coordinator's public key (--trust)"
        )
    return body, signer


@lru_cache(maxsize=16)
def _public_key(raw: bytes) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(raw)


def _covered(topic: str, body: bytes) -> bytes:
    return topic.encode() + b"\0" + body


def _read_key(path: Path) -> bytes:
    try:
        return VerifyKey.from_hex(path.read_text(encoding="ascii")).raw
    except OSError as error:
        raise SettingsError(f"{path}: this key file cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise SettingsError(f"{path}: not a key file: {error}") from None
