"""The way of a round's offer through Flower's records, where strategies put it."""

from typing import cast

from flwr.app import ConfigRecord, RecordDict

from coordinator.round_offer import RoundOffer
from shared.messages import ROUND_MANIFEST, dump, parse

RECORD = "round"
CLIENT_RECORD = "client"
"""What concerns one client alone: under `history`, the tag of its sends."""


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
    if RECORD not in content.config_records:
        return None
    record = dict(content.config_records[RECORD])
    manifest = parse(ROUND_MANIFEST, cast(bytes, record.pop("manifest")))
    attachment = cast(bytes, record.pop("attachment"))
    at_once = tuple(cast(list[str], record.pop("at_once")))
    return RoundOffer(manifest, attachment, cast(dict[str, bytes], record), at_once)
