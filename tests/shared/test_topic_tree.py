from hypothesis import given, settings
from hypothesis import strategies as st
from paho.mqtt.client import topic_matches_sub

from shared.topic_tree import TopicTree

LEVELS = st.sampled_from(["a", "b", "", "$x"])
TOPICS = st.lists(LEVELS, min_size=1, max_size=4).map("/".join)
FILTERS = st.builds(
    lambda levels, tail: "/".join(levels + tail),
    st.lists(st.one_of(LEVELS, st.just("+")), min_size=1, max_size=4),
    st.sampled_from([[], ["#"]]),
) | st.just("#")


def tree_of(names: set[str]) -> TopicTree[str]:
    tree: TopicTree[str] = TopicTree()
    for name in sorted(names):
        tree.set(name, name)
    return tree


@settings(max_examples=60, deadline=None)
@given(st.sets(FILTERS, max_size=12), TOPICS)
def test_filters_for_a_topic_are_those_that_match_it(filters: set[str], topic: str) -> None:
    found = list(tree_of(filters).filters_for(topic))
    assert sorted(found) == sorted(name for name in filters if topic_matches_sub(name, topic))


@settings(max_examples=60, deadline=None)
@given(st.sets(TOPICS, max_size=12), FILTERS)
def test_topics_for_a_filter_are_those_it_matches(topics: set[str], name: str) -> None:
    found = list(tree_of(topics).topics_for(name))
    assert sorted(found) == sorted(topic for topic in topics if topic_matches_sub(name, topic))


@settings(max_examples=60, deadline=None)
@given(st.sets(FILTERS, min_size=1, max_size=12), st.data())
def test_removed_name_is_gone_and_the_others_stay(names: set[str], data: st.DataObject) -> None:
    tree = tree_of(names)
    gone = data.draw(st.sampled_from(sorted(names)))
    tree.remove(gone)
    tree.remove(gone)
    assert {name for name in names if tree.get(name) == name} == names - {gone}


def test_empty_tree_keeps_no_levels() -> None:
    tree = tree_of({"a/b/c", "a/b"})
    for name in ("a/b/c", "a/b", "never/there"):
        tree.remove(name)
    assert not list(tree.topics_for("#"))
    assert tree.get("a/b") is None
