import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import SettingsError, SignatureError
from shared.frame import FrameKind, pack_frame
from shared.signing import SigningKey, VerifyKey, open_sealed, seal

GOLDEN = (Path(__file__).parents[1] / "golden" / "sealed.bin").read_bytes()
TOPIC = "gs/v1/down/watch-03/cmd"
BODY = b'{"kind":"rebirth"}'
KEY = SigningKey(bytes(range(32)))
OTHER = SigningKey(bytes(32))


@given(st.binary(max_size=100), st.text(min_size=1, max_size=40))
def test_sealed_body_comes_back_on_its_topic(body: bytes, topic: str) -> None:
    assert open_sealed([OTHER.verify_key, KEY.verify_key], topic, seal(KEY, topic, body)) == body


def test_golden_seal_keeps_its_bytes() -> None:
    assert seal(KEY, TOPIC, BODY) == GOLDEN
    assert open_sealed([KEY.verify_key], TOPIC, GOLDEN) == BODY


def test_truncation_at_every_offset_is_refused() -> None:
    for length in range(len(GOLDEN)):
        with pytest.raises(SignatureError, match="not sealed"):
            open_sealed([KEY.verify_key], TOPIC, GOLDEN[:length])


def test_every_flipped_bit_is_refused_even_with_a_matching_checksum() -> None:
    signed = KEY.sign(TOPIC.encode() + b"\0" + BODY) + BODY
    assert open_sealed([KEY.verify_key], TOPIC, pack_frame(FrameKind.SEALED, signed)) == BODY
    for bit in range(8 * len(signed)):
        flipped = bytearray(signed)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(SignatureError, match="altered"):
            open_sealed([KEY.verify_key], TOPIC, pack_frame(FrameKind.SEALED, bytes(flipped)))


def test_seal_of_another_topic_is_refused() -> None:
    with pytest.raises(SignatureError, match="another topic"):
        open_sealed([KEY.verify_key], "gs/v1/down/watch-04/cmd", GOLDEN)


def test_seal_of_an_untrusted_key_is_refused() -> None:
    with pytest.raises(SignatureError, match="another key"):
        open_sealed([OTHER.verify_key], TOPIC, GOLDEN)


def test_plain_json_is_refused() -> None:
    with pytest.raises(SignatureError, match="not sealed"):
        open_sealed([KEY.verify_key], TOPIC, BODY)


def test_frame_of_another_kind_is_refused() -> None:
    with pytest.raises(SignatureError, match="WHOLE frame"):
        open_sealed([KEY.verify_key], TOPIC, pack_frame(FrameKind.WHOLE, GOLDEN[5:-4]))


def test_without_a_trusted_key_nothing_is_accepted() -> None:
    with pytest.raises(SignatureError, match="no trusted key"):
        open_sealed([], TOPIC, GOLDEN)


def test_keys_come_back_from_their_files(tmp_path: Path) -> None:
    key = SigningKey.generate()
    key.save(tmp_path / "key")
    key.verify_key.save(tmp_path / "key.pub")
    assert SigningKey.load(tmp_path / "key").sign(b"x") == key.sign(b"x")
    assert VerifyKey.load(tmp_path / "key.pub") == key.verify_key


def test_generated_keys_differ() -> None:
    assert SigningKey.generate().verify_key != SigningKey.generate().verify_key


def test_private_key_file_is_for_its_owner_only(tmp_path: Path) -> None:
    previous = os.umask(0)
    try:
        KEY.save(tmp_path / "key")
    finally:
        os.umask(previous)
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600


def test_private_key_that_everybody_can_read_is_refused(tmp_path: Path) -> None:
    KEY.save(tmp_path / "key")
    (tmp_path / "key").chmod(0o644)
    with pytest.raises(SettingsError, match="chmod 600"):
        SigningKey.load(tmp_path / "key")


def test_existing_private_key_is_never_overwritten(tmp_path: Path) -> None:
    KEY.save(tmp_path / "key")
    with pytest.raises(SettingsError, match="there already"):
        OTHER.save(tmp_path / "key")
    assert SigningKey.load(tmp_path / "key").verify_key == KEY.verify_key


@pytest.mark.parametrize("text", ["", "zz" * 32, "00" * 31, "00" * 33])
def test_file_without_a_key_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "key.pub").write_text(text)
    with pytest.raises(SettingsError, match=r"key\.pub: not a key file"):
        VerifyKey.load(tmp_path / "key.pub")


def test_absent_key_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"absent\.pub"):
        VerifyKey.load(tmp_path / "absent.pub")
