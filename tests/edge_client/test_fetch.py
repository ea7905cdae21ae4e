import hashlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_client.actions import Subscribe, Unsubscribe
from edge_client.fetch import Fetched, Fetcher, FetchNews
from edge_client.presence import Identity
from shared.blobs import chunks_of
from shared.errors import DigestMismatch, FrameError
from shared.messages import DEVICE_EVENT, BlobRef, Want, parse
from shared.topics import Topics
from shared.transport import Publication

TOPICS = Topics()
SMALL, LARGE = b"small object", hashlib.shake_128(b"large").digest(1000)
CHUNK_BYTES = 50  # 20 chunks


def ref(content: bytes) -> BlobRef:
    return BlobRef(digest=hashlib.sha256(content).hexdigest(), size=len(content))


def topic(content: bytes, index: int) -> str:
    return TOPICS.blob_chunk(ref(content).digest, index)


def fetcher() -> Fetcher:
    made = Fetcher(Identity("board-1", TOPICS, 1, "test"), lambda: 0.0)
    made.link_up(0.0)
    return made


def asked(news: list[FetchNews]) -> list[str]:
    return [name for item in news if isinstance(item, Subscribe) for name in item.filters]


def fetched(news: list[FetchNews]) -> list[Fetched]:
    return [item for item in news if isinstance(item, Fetched)]


def wants(news: list[FetchNews]) -> list[object]:
    return [parse(DEVICE_EVENT, item.payload) for item in news if isinstance(item, Publication)]


def serve(of: Fetcher, news: list[FetchNews], content: bytes, now: float = 0.0) -> list[FetchNews]:
    """Publish what is asked for until nothing more is; returns all that the fetcher said."""
    chunks = chunks_of(content, CHUNK_BYTES)
    said, open_topics = list(news), asked(news)
    while open_topics:
        assert len(open_topics) <= 8
        answers = [item for name in open_topics for item in of.receive(name, chunks[TOPICS.parse_blob(name)[1]], now)]
        said += answers
        open_topics = asked(answers)
    return said


def test_small_object_takes_one_topic_and_leaves_it() -> None:
    of = fetcher()
    assert of.want(ref(SMALL), 0.0) == [Subscribe((topic(SMALL, 0),))]
    assert of.receive(topic(SMALL, 0), SMALL, 0.0) == [
        Fetched(ref(SMALL).digest, SMALL),
        Unsubscribe((topic(SMALL, 0),)),
    ]
    assert of.next_wake() == math.inf


def test_large_object_is_asked_for_eight_topics_at_a_time() -> None:
    of = fetcher()
    said = serve(of, of.want(ref(LARGE), 0.0), LARGE)
    assert fetched(said) == [Fetched(ref(LARGE).digest, LARGE)]
    assert [len(item.filters) for item in said if isinstance(item, Subscribe)] == [1, 8, 8, 3]
    left = [name for item in said if isinstance(item, Unsubscribe) for name in item.filters]
    assert sorted(left) == sorted(asked(said))


@given(st.permutations(range(20)), st.integers(0, 20))
def test_chunks_in_any_order_with_a_reconnect_make_the_object(order: list[int], break_at: int) -> None:
    of = fetcher()
    news = of.want(ref(LARGE), 0.0)
    of.receive(topic(LARGE, 0), LARGE[:CHUNK_BYTES], 0.0)
    of.link_down()
    news = of.link_up(0.0)
    assert topic(LARGE, 0) not in asked(news)
    chunks = chunks_of(LARGE, CHUNK_BYTES)
    for _ in range(20):
        names = sorted(asked(news), key=lambda name: order[TOPICS.parse_blob(name)[1]])
        news = [n for name in names for n in of.receive(name, chunks[TOPICS.parse_blob(name)[1]], 0.0)]
        if fetched(news):
            break
    assert fetched(news) == [Fetched(ref(LARGE).digest, LARGE)]


def test_objects_are_fetched_one_after_another() -> None:
    of = fetcher()
    of.want(ref(SMALL), 0.0)
    assert of.want(ref(LARGE), 0.0) == []
    assert asked(of.receive(topic(SMALL, 0), SMALL, 0.0)) == [topic(LARGE, 0)]


def test_object_that_stays_away_is_wanted_with_growing_patience() -> None:
    of = fetcher()
    of.want(ref(SMALL), 0.0)
    now, waits = 0.0, []
    for _ in range(6):
        waits.append(of.next_wake() - now)
        assert of.tick(of.next_wake() - 0.01) == []
        now = of.next_wake()
        news = of.tick(now)
        assert wants(news) == [Want(digest=ref(SMALL).digest)]
        assert asked(news) == [topic(SMALL, 0)]
    assert waits == [5, 10, 20, 40, 60, 60]


def test_every_chunk_that_comes_renews_the_patience() -> None:
    of = fetcher()
    of.want(ref(LARGE), 0.0)
    of.tick(5.0)
    of.receive(topic(LARGE, 0), LARGE[:CHUNK_BYTES], 6.0)
    assert of.next_wake() == 11


def test_nothing_is_wanted_while_the_link_is_down() -> None:
    of = fetcher()
    of.want(ref(SMALL), 0.0)
    of.link_down()
    assert of.next_wake() == math.inf
    assert of.want(ref(LARGE), 0.0) == []
    assert asked(of.link_up(9.0)) == [topic(SMALL, 0)]


def test_altered_object_is_refused_and_fetched_again() -> None:
    of = fetcher()
    of.want(ref(SMALL), 0.0)
    with pytest.raises(DigestMismatch):
        of.receive(topic(SMALL, 0), SMALL.upper(), 0.0)
    assert of.receive(topic(SMALL, 0), SMALL, 0.0) == []
    assert fetched(serve(of, of.tick(5.0), SMALL)) == [Fetched(ref(SMALL).digest, SMALL)]


def test_chunk_of_a_wrong_length_is_refused_and_the_object_begun_anew() -> None:
    of = fetcher()
    of.want(ref(LARGE), 0.0)
    of.receive(topic(LARGE, 0), LARGE[:CHUNK_BYTES], 0.0)
    with pytest.raises(FrameError):
        of.receive(topic(LARGE, 1), b"short", 0.0)
    assert fetched(serve(of, of.tick(5.0), LARGE)) == [Fetched(ref(LARGE).digest, LARGE)]


def test_chunk_nobody_asked_for_is_ignored() -> None:
    of = fetcher()
    assert of.receive(topic(SMALL, 0), SMALL, 0.0) == []
    of.want(ref(LARGE), 0.0)
    assert of.receive(topic(LARGE, 3), LARGE[150:200], 0.0) == []
    assert of.receive(topic(LARGE, 0), b"", 0.0) == []


def test_object_that_is_no_longer_needed_makes_room_for_the_next() -> None:
    of = fetcher()
    of.want(ref(SMALL), 0.0)
    of.want(ref(LARGE), 0.0)
    assert of.retain({ref(LARGE).digest}, 0.0) == [Unsubscribe((topic(SMALL, 0),)), Subscribe((topic(LARGE, 0),))]
    assert of.retain(set(), 0.0) == [Unsubscribe((topic(LARGE, 0),))]


def test_only_blob_topics_are_chunks() -> None:
    of = fetcher()
    assert of.is_chunk(topic(SMALL, 3))
    assert not of.is_chunk(TOPICS.command("board-1"))
