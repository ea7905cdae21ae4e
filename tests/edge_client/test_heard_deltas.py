import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_client.heard_deltas import MOST_HEARD, MOST_HEARD_BYTES, HeardDeltas
from edge_client.inbox import OpenRound
from shared.delta_chain import Link
from shared.messages import BlobRef, LocalWork, RoundManifest
from shared.update import base_tag

WORK = LocalWork(steps=1, batch_size=1, learning_rate=0.1, momentum=0.0, codec="dense", seed=1)


def model(number: int) -> str:
    return hashlib.sha256(b"model %d" % number).hexdigest()


def opened(number: int, size: int = 20, model_bytes: int = 1 << 20, *, attached: bool = True) -> OpenRound:
    """The round whose delta, of `size` bytes, leads from the model before `number` to it."""
    frame = (b"%d " % number * size)[:size]
    delta = BlobRef(digest=hashlib.sha256(frame).hexdigest(), size=size, offset=0 if attached else None)
    manifest = RoundManifest(
        run="r",
        server_round=number,
        bundle=BlobRef(digest="b" * 64, size=1),
        model=BlobRef(digest=model(number), size=model_bytes),
        base=model(number - 1),
        delta=delta,
        work=WORK,
    )
    return OpenRound(manifest, {delta.digest: frame} if attached else {})


def link(number: int, size: int = 20) -> Link:
    return Link(base_tag(model(number - 1)), (b"%d " % number * size)[:size])


def test_deltas_in_a_row_lead_to_the_last_model() -> None:
    heard = HeardDeltas()
    for number in (1, 2, 3):
        heard.hear(opened(number))
    assert heard.leading_to(model(3)) == [link(1), link(2), link(3)]
    assert heard.leading_to(model(2)) == [link(1), link(2)]
    assert heard.leading_to(model(9)) == []


@given(st.sets(st.integers(1, 20)), st.integers(1, 20), st.integers(0, 20))
def test_row_ends_at_the_first_gap_and_at_the_model_that_was_reached(
    numbers: set[int], last: int, reached: int
) -> None:
    heard = HeardDeltas()
    for number in sorted(numbers):
        heard.hear(opened(number))
    heard.reached(model(reached))
    left = {number for number in numbers if reached not in numbers or number > reached}
    row = list[Link]()
    while last in left:
        row.insert(0, link(last))
        last -= 1
    assert heard.leading_to(model(last + len(row))) == row


def test_delta_is_found_by_its_digest() -> None:
    heard = HeardDeltas()
    heard.hear(opened(1))
    assert heard.frame(hashlib.sha256(link(1).frame).hexdigest()) == link(1).frame
    assert heard.frame("a" * 64) is None


def test_round_without_an_attached_delta_is_not_heard() -> None:
    heard = HeardDeltas()
    heard.hear(opened(1, attached=False))
    first = opened(1)
    heard.hear(OpenRound(first.manifest.model_copy(update={"base": None, "delta": None}), {}))
    assert heard.leading_to(model(1)) == []


def test_rounds_that_come_back_to_a_model_make_no_endless_row() -> None:
    heard, same = HeardDeltas(), opened(1)
    for base, target in (("a", "b"), ("b", "a"), ("a", "b"), ("b", "b")):
        changes = {"base": base * 64, "model": BlobRef(digest=target * 64, size=1 << 20)}
        heard.hear(OpenRound(same.manifest.model_copy(update=changes), same.attached))
    assert [part.base[:1].hex() for part in heard.leading_to("b" * 64)] == ["aa", "bb", "aa"]


@pytest.mark.parametrize(
    ("size", "model_bytes", "kept"),
    [(20, 1 << 20, MOST_HEARD), (24_000, 1 << 30, (MOST_HEARD_BYTES - 1) // 24_000), (24_000, 96_000, 3), (50, 40, 0)],
    ids=["many", "large", "near the model's size", "above the model's size"],
)
def test_oldest_deltas_make_way_within_the_bounds(size: int, model_bytes: int, kept: int) -> None:
    heard = HeardDeltas()
    for number in range(1, 101):
        heard.hear(opened(number, size, model_bytes))
    assert heard.leading_to(model(100)) == [link(number, size) for number in range(101 - kept, 101)]
