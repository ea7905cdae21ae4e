"""The way of a round's offer through Flower's records, where strategies put it."""

from functools import lru_cache
from typing import cast

from flwr.app import ConfigRecord, RecordDict

from coordinator.round_offer import RoundOffer
from shared.flower_records import ROUND
from shared.messages import ROUND_MANIFEST, RoundManifest, dump, parse


def offer_to_record(offer: RoundOffer) -> ConfigRecord:
    """An ordinary Flower record: a strategy's messages can carry it through any Grid."""
    return ConfigRecord(
        {
            "manifest": dump(offer.manifest),
            "attachment": offer.attachment,
            "at_once": list(offer.at_once),
            **offer.blobs,
        }
    )


def offer_from_record(content: RecordDict) -> RoundOffer | None:
    """The offer in a message's content; None for a message that carries none, such as a stock strategy's."""
    found = config_record(content, ROUND)
    if found is None:
        return None
    record = dict(found)
    manifest = _manifest(cast(bytes, record.pop("manifest")))
    attachment = cast(bytes, record.pop("attachment"))
    at_once = tuple(cast(list[str], record.pop("at_once")))
    return RoundOffer(manifest, attachment, cast(dict[str, bytes], record), at_once)


def manifest_from_record(content: RecordDict) -> RoundManifest | None:
    """The manifest alone, where the offer as a whole is known already."""
    record = config_record(content, ROUND)
    return None if record is None else _manifest(cast(bytes, record["manifest"]))


def config_record(content: RecordDict, name: str) -> ConfigRecord | None:
    """The config record of this name; Flower's own `config_records` copies all records whenever it is looked at."""
    record = content.get(name)
    return record if isinstance(record, ConfigRecord) else None


@lru_cache(maxsize=2)
def _manifest(text: bytes) -> RoundManifest:
    """The messages of a round have one manifest, each of them."""
    return parse(ROUND_MANIFEST, text)
