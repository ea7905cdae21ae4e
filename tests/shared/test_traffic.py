from shared.traffic import OTHER_TOPICS, TOPIC_LIMIT, count_received, count_sent
from shared.transport import Publication, Traffic


def test_invented_topics_do_not_grow_the_table_without_end() -> None:
    traffic = Traffic()
    for number in range(TOPIC_LIMIT + 100):
        count_received(traffic, f"gs/{number:05}", 10, 1)
    count_received(traffic, "gs/00000", 10, 1)
    packet_bytes = 2 + 2 + 8 + 2 + 1 + 10
    assert traffic.received_bytes == packet_bytes * (TOPIC_LIMIT + 101) == sum(traffic.received_by_topic_bytes.values())
    assert len(traffic.received_by_topic_bytes) == TOPIC_LIMIT + 1
    assert traffic.received_by_topic_bytes[OTHER_TOPICS] == 100 * packet_bytes
    assert traffic.received_by_topic_bytes["gs/00000"] == 2 * packet_bytes


def test_packet_that_never_left_is_taken_back() -> None:
    traffic = Traffic()
    count_sent(traffic, Publication("gs/a", b"1234"))
    count_sent(traffic, Publication("gs/a", b"1234"), messages=-1)
    assert (traffic.sent_bytes, traffic.sent_messages) == (0, 0)
