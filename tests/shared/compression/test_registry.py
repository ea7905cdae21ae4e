import numpy as np
import pytest

from shared.compression.plan import Plan
from shared.compression.registry import CODECS, codec_by_name, codec_by_wire_id, decode_frame
from shared.errors import DecodeError, SettingsError
from shared.layout import Layout

LAYOUT = Layout.of([("weight", (4, 70), "weight")])


def test_names_and_wire_ids_are_fixed() -> None:
    assert {codec.name: codec.wire_id for codec in CODECS} == {
        "partition": 1,
        "stc": 2,
        "dense": 3,
        "fp16": 4,
        "topk": 5,
        "dgc": 6,
        "sidco": 7,
        "adacomp": 8,
        "qsgd": 9,
        "terngrad": 10,
        "eden": 11,
    }


@pytest.mark.parametrize("name", [codec.name for codec in CODECS])
def test_a_frame_finds_its_codec_by_its_first_byte(name: str) -> None:
    update = np.random.default_rng(3).standard_normal(LAYOUT.size).astype(np.float32)
    encoded = codec_by_name(name).encode(update, LAYOUT, Plan(60))
    assert codec_by_wire_id(encoded.frame[0]).name == name
    np.testing.assert_array_equal(decode_frame(encoded.frame, LAYOUT, Plan(60)).values, encoded.delivered.values)


@pytest.mark.parametrize("frame", [b"", b"\x00", b"\x0cabc", b"\xff"])
def test_a_frame_of_no_codec_is_refused(frame: bytes) -> None:
    with pytest.raises(DecodeError):
        decode_frame(frame, LAYOUT, Plan(60))


def test_an_unknown_name_is_a_mistake_in_the_settings() -> None:
    with pytest.raises(SettingsError, match="choose one of partition, stc, dense"):
        codec_by_name("zip")
