"""All codecs, by name and by the wire id that is the first byte of every frame."""

from dataclasses import replace

from shared.compression.adacomp import AdaCompCodec
from shared.compression.codec import Codec, SparseUpdate
from shared.compression.dense import DenseCodec
from shared.compression.dgc import DgcCodec, MomentumCorrection
from shared.compression.eden import EdenCodec
from shared.compression.half import HalfCodec
from shared.compression.memory import ClientMemory, NoMemory
from shared.compression.partition import PartitionCodec
from shared.compression.plan import Plan
from shared.compression.qsgd import QsgdCodec
from shared.compression.residual import ResidualFeedback
from shared.compression.sidco import SidcoCodec
from shared.compression.stc import StcCodec
from shared.compression.terngrad import TernGradCodec
from shared.compression.topk import TopKCodec
from shared.errors import DecodeError, SettingsError
from shared.layout import F32, Layout

CODECS: tuple[Codec, ...] = (
    PartitionCodec(),
    StcCodec(),
    DenseCodec(),
    HalfCodec(),
    TopKCodec(),
    DgcCodec(),
    SidcoCodec(),
    AdaCompCodec(),
    QsgdCodec(),
    TernGradCodec(),
    EdenCodec(),
)

MEMORIES: dict[str, type[ClientMemory]] = {
    "dgc": MomentumCorrection,
    "qsgd": NoMemory,
    "terngrad": NoMemory,
    "eden": NoMemory,
}
"""All codecs but these leave a residual."""


def codec_by_name(name: str) -> Codec:
    """The codec that a settings file calls `name`; raises `SettingsError` if there is none."""
    for codec in CODECS:
        if codec.name == name:
            return codec
    raise SettingsError(f"no codec is called {name!r}: choose one of {', '.join(codec.name for codec in CODECS)}")


def codec_for_update(name: str, latest: F32) -> Codec:
    """The codec called `name`, told this round's local update alone where its criterion looks at that."""
    codec = codec_by_name(name)
    return replace(codec, latest=latest) if isinstance(codec, AdaCompCodec) else codec


def memory_by_codec(name: str) -> type[ClientMemory]:
    """The memory that goes with the codec called `name`; raises `SettingsError` if there is no such codec."""
    return MEMORIES.get(codec_by_name(name).name, ResidualFeedback)


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
