"""Counts what a transport carries; the transport guards it against concurrent use."""

from shared.transport import Publication, Traffic, publish_packet_bytes

TOPIC_LIMIT = 4096
OTHER_TOPICS = "…"
"""Key for the bytes of all topics beyond the first `TOPIC_LIMIT`: a stranger may invent topics, not our memory."""


def count_sent(traffic: Traffic, publication: Publication, messages: int = 1) -> None:
    """Add one packet to what was sent, or with `messages=-1` take one back that never left."""
    packet_bytes = publish_packet_bytes(publication.topic, len(publication.payload), publication.qos)
    traffic.sent_bytes += messages * packet_bytes
    traffic.sent_messages += messages


def count_received(traffic: Traffic, topic: str, payload_bytes: int, qos: int) -> None:
    """Add one packet to what was received."""
    packet_bytes = publish_packet_bytes(topic, payload_bytes, qos)
    traffic.received_bytes += packet_bytes
    traffic.received_messages += 1
    by_topic = traffic.received_by_topic_bytes
    key = topic if topic in by_topic or len(by_topic) < TOPIC_LIMIT else OTHER_TOPICS
    by_topic[key] = by_topic.get(key, 0) + packet_bytes
