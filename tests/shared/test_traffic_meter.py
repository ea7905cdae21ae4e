from shared.traffic_meter import OTHER_TOPICS, TOPIC_LIMIT, TrafficMeter
from shared.transport import Publication


def test_invented_topics_do_not_grow_the_table_without_end() -> None:
    meter = TrafficMeter()
    for number in range(TOPIC_LIMIT + 100):
        meter.count_received(f"gs/{number:05}", 10, 1)
    meter.count_received("gs/00000", 10, 1)
    packet_bytes = 2 + 2 + 8 + 2 + 1 + 10
    assert meter.received_bytes == packet_bytes * (TOPIC_LIMIT + 101) == sum(meter.received_by_topic_bytes.values())
    assert len(meter.received_by_topic_bytes) == TOPIC_LIMIT + 1
    assert meter.received_by_topic_bytes[OTHER_TOPICS] == 100 * packet_bytes
    assert meter.received_by_topic_bytes["gs/00000"] == 2 * packet_bytes


def test_packet_that_never_left_is_taken_back() -> None:
    meter = TrafficMeter()
    meter.count_sent(Publication("gs/a", b"1234"))
    meter.count_sent(Publication("gs/a", b"1234"), messages=-1)
    assert (meter.sent_bytes, meter.sent_messages) == (0, 0)
