"""All codecs, by name and by the wire id that is the first byte of every frame."""

from shared.compression.codec import Codec, SparseUpdate
from shared.compression.dense import DenseCodec
from shared.compression.partition import PartitionCodec
from shared.compression.plan import Plan
from shared.compression.stc import StcCodec
from shared.errors import DecodeError, SettingsError
from shared.layout import Layout

CODECS: tuple[Codec, ...] = (PartitionCodec(), StcCodec(), DenseCodec())


def codec_by_name(name: str) -> Codec:
    """The codec that a settings file calls `name`; raises `SettingsError` if there is none."""
    for codec in CODECS:
        if codec.name == name:
            return codec
    raise SettingsError(f"no codec is called {name!r}: choose one of {', '.join(codec.name for codec in CODECS)}")


def codec_by_wire_id(wire_id: int) -> Codec:
    """The codec whose frames begin with `wire_id`; raises `DecodeError` if there is none."""
    for codec in CODECS:
        if codec.wire_id == wire_id:
            return codec
    raise DecodeError(f"no codec has wire id {wire_id}: the sender may run a newer version")


def decode_frame(frame: bytes, layout: Layout, plan: Plan) -> SparseUpdate:
    """Decode a frame of any codec; raises `DecodeError`."""
    if not frame:
        raise DecodeError("the frame is empty: even one that delivers nothing has a wire id")
    return codec_by_wire_id(frame[0]).decode(frame, layout, plan)
