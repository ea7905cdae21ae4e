import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import MessageError
from shared.topics import DEVICE_NAME, DeviceTopic, Topics, check_device_name
from shared.verdicts import Verdict

TOPICS = Topics()
DIGEST = "0123456789abcdef" * 4
names = st.from_regex(DEVICE_NAME, fullmatch=True)


def test_topics_are_those_of_protocol_version_one() -> None:
    assert [
        TOPICS.coordinator_state(),
        TOPICS.round_manifest("r1"),
        TOPICS.all_round_manifests(),
        TOPICS.blob(DIGEST),
        TOPICS.blob_chunk(DIGEST, 3),
        TOPICS.device_state("d"),
        TOPICS.device_event("d"),
        TOPICS.heartbeat("d"),
        TOPICS.upload("d"),
        TOPICS.all_uplinks(),
        TOPICS.command("d"),
        TOPICS.download("d"),
    ] == [
        "gs/v1/pub/coord/state",
        "gs/v1/pub/run/r1/round",
        "gs/v1/pub/run/+/round",
        "gs/v1/pub/blob/0123456789abcdef/+",
        "gs/v1/pub/blob/0123456789abcdef/3",
        "gs/v1/up/d/state",
        "gs/v1/up/d/evt",
        "gs/v1/up/d/hb",
        "gs/v1/up/d/x",
        "gs/v1/up/+/+",
        "gs/v1/down/d/cmd",
        "gs/v1/down/d/x",
    ]


@given(names)
def test_uplink_topics_are_parsed_back(device: str) -> None:
    topics = Topics("site/a")
    assert topics.parse_uplink(topics.upload(device)) == DeviceTopic(device, "x")
    assert topics.parse_uplink(topics.device_state(device)) == DeviceTopic(device, "state")
    assert check_device_name(device) == device


@given(st.integers(0, 999_999))
def test_blob_topics_are_parsed_back(index: int) -> None:
    assert TOPICS.parse_blob(TOPICS.blob_chunk(DIGEST, index)) == (DIGEST[:16], index)


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "gs/v1/up/d",
        "gs/v1/up//x",
        "gs/v1/up/D/x",
        "gs/v1/up/a/b/x",
        "gs/v1/up/d/",
        "gs/v1/down/d/x",
        "hs/v1/up/d/x",
    ],
)
def test_other_topics_are_no_uplinks(topic: str) -> None:
    with pytest.raises(MessageError, match="not an uplink"):
        TOPICS.parse_uplink(topic)


@pytest.mark.parametrize(
    "tail", ["0123456789abcdef", "0123456789abcde/1", "0123456789abcdef/-1", "0123456789abcdef/1234567"]
)
def test_other_topics_are_no_blobs(tail: str) -> None:
    with pytest.raises(MessageError, match="not a blob"):
        TOPICS.parse_blob(f"gs/v1/pub/blob/{tail}")


def test_root_is_never_taken_as_a_pattern() -> None:
    with pytest.raises(MessageError):
        Topics("g.").parse_blob(TOPICS.blob_chunk(DIGEST, 1))


@pytest.mark.parametrize("name", ["", "-a", "_a", "A", "a/b", "a+", "a#", "../a", "a" * 49, "a\n"])
def test_name_that_is_no_topic_level_is_refused(name: str) -> None:
    with pytest.raises(MessageError, match="device name"):
        check_device_name(name)


def test_verdicts_keep_their_numbers() -> None:
    assert [verdict.name for verdict in sorted(Verdict)] == [
        "PENDING",
        "DONE",
        "DUPLICATE",
        "STALE_ROUND",
        "WRONG_BASE",
        "TOO_LARGE",
        "BAD_DIGEST",
        "REFUSED",
        "RETRY_AFTER",
        "UNSUPPORTED",
    ]
    assert [int(verdict) for verdict in sorted(Verdict)] == list(range(10))


def test_only_three_verdicts_ask_for_more() -> None:
    assert {verdict for verdict in Verdict if not verdict.is_final} == {
        Verdict.PENDING,
        Verdict.BAD_DIGEST,
        Verdict.RETRY_AFTER,
    }
