"""A short run of every target, the same each time: its corpus, then some thousand mutants of it."""

from itertools import islice

import pytest

from shared.compression.codec import Codec
from shared.compression.registry import CODECS, decode_frame
from tests.fuzz.mutants import mutants
from tests.fuzz.targets import TARGETS, corpus, read_case

MUTANTS = {"frame": 10_000, "plan": 4_000, "history": 4_000, "update": 4_000}


@pytest.mark.parametrize("target", TARGETS)
def test_the_corpus_breaks_no_promise(target: str) -> None:
    assert len(corpus(target)) > 1
    for name, data in corpus(target).items():
        try:
            TARGETS[target](data)
        except Exception as error:
            pytest.fail(f"{target}/{name}: {error!r}")


@pytest.mark.parametrize("target", TARGETS)
def test_mutants_of_the_corpus_break_no_promise(target: str) -> None:
    for data in islice(mutants(list(corpus(target).values()), 1), MUTANTS[target]):
        try:
            TARGETS[target](data)
        except Exception as error:
            pytest.fail(f"{data.hex()}: {error!r}")


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
def test_the_corpus_holds_frames_that_every_codec_takes(codec: Codec) -> None:
    names = [name for name in corpus("frame") if name.startswith(f"{codec.name}-")]
    assert names
    for name in names:
        layout, plan, frame = read_case(corpus("frame")[name])
        assert decode_frame(frame, layout, plan).size == layout.size
