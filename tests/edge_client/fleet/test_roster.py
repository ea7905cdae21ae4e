import pytest

from edge_client.fleet.roster import checks_once
from edge_client.inbox import opened_round
from shared.errors import SignatureError
from shared.messages import BlobRef, LocalWork, RoundManifest, dump
from shared.signing import SigningKey, VerifyKey, seal
from shared.varint import write_varint

KEY, STRANGER = SigningKey(bytes(32)), SigningKey(bytes([1]) * 32)
TOPIC = "gradsieve/1/run/a/round"
WORK = LocalWork(steps=1, batch_size=1, learning_rate=0.1, momentum=0.0, codec="partition", seed=1)


def sealed(key: SigningKey) -> bytes:
    ref = BlobRef(digest="ab" * 32, size=9)
    text = dump(RoundManifest(run="a", server_round=1, bundle=ref, model=ref, work=WORK))
    return seal(key, TOPIC, write_varint(len(text)) + text)


def test_the_manifest_that_all_devices_of_a_fleet_get_is_verified_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, verifies = list[bytes](), VerifyKey.verifies

    def counted(key: VerifyKey, signature: bytes, content: bytes) -> bool:
        seen.append(signature)
        return verifies(key, signature, content)

    monkeypatch.setattr(VerifyKey, "verifies", counted)
    open_round, trusted = checks_once().open_round, (KEY.verify_key,)
    opened = [open_round(trusted, TOPIC, sealed(KEY)) for _ in range(5)]
    assert len(seen) == 1
    assert opened == 5 * [opened_round(trusted, TOPIC, sealed(KEY))]


def test_a_manifest_by_a_stranger_is_refused_by_every_device_and_one_that_trusts_him_takes_it() -> None:
    open_round = checks_once().open_round
    for _ in range(2):
        with pytest.raises(SignatureError, match="another key"):
            open_round((KEY.verify_key,), TOPIC, sealed(STRANGER))
    assert open_round((STRANGER.verify_key,), TOPIC, sealed(STRANGER)).signer == STRANGER.verify_key.hex
    with pytest.raises(SignatureError, match="another topic"):
        open_round((STRANGER.verify_key,), TOPIC + "s", sealed(STRANGER))
