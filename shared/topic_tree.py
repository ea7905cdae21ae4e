"""A tree of topic levels that finds filters for a topic, or topics for a filter."""

from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class TopicTree(Generic[T]):
    """Values under topics or topic filters (MQTT 5, section 4.7); lookups cost levels, not entries."""

    __slots__ = ("_children", "_value")

    def __init__(self) -> None:
        self._children: dict[str, TopicTree[T]] = {}
        self._value: T | None = None

    def get(self, name: str) -> T | None:
        """The value stored under exactly this name."""
        node: TopicTree[T] | None = self
        for level in name.split("/"):
            node = node._children.get(level) if node else None
        return node._value if node else None

    def set(self, name: str, value: T) -> None:
        """Store a value under this name."""
        node = self
        for level in name.split("/"):
            node = node._children.setdefault(level, TopicTree())
        node._value = value

    def remove(self, name: str) -> None:
        """Forget this name, and the levels that only it needed."""
        self._remove(name.split("/"), 0)

    def _remove(self, levels: list[str], depth: int) -> None:
        if depth == len(levels):
            self._value = None
            return
        child = self._children.get(levels[depth])
        if child is not None:
            child._remove(levels, depth + 1)
            if child._value is None and not child._children:
                del self._children[levels[depth]]

    def filters_for(self, topic: str) -> Iterator[T]:
        """Values whose names, as filters, match this topic."""
        return self._filters_for(topic.split("/"), 0)

    def _filters_for(self, levels: list[str], depth: int) -> Iterator[T]:
        wild = depth > 0 or not levels[0].startswith("$")  # a wildcard does not match `$SYS` and its like
        if wild and (rest := self._children.get("#")) and rest._value is not None:
            yield rest._value
        if depth == len(levels):
            if self._value is not None:
                yield self._value
            return
        for level in (levels[depth], "+") if wild else (levels[0],):
            if (child := self._children.get(level)) is not None:
                yield from child._filters_for(levels, depth + 1)

    def topics_for(self, topic_filter: str) -> Iterator[T]:
        """Values whose names, as topics, this filter matches."""
        return self._topics_for(topic_filter.split("/"), 0)

    def _topics_for(self, levels: list[str], depth: int) -> Iterator[T]:
        if depth == len(levels):
            if self._value is not None:
                yield self._value
        elif levels[depth] in ("+", "#"):
            if levels[depth] == "#" and self._value is not None:
                yield self._value
            for name, child in self._children.items():
                if depth > 0 or not name.startswith("$"):
                    yield from child._topics_for(levels, depth + 1) if levels[depth] == "+" else child._values()
        elif (only := self._children.get(levels[depth])) is not None:
            yield from only._topics_for(levels, depth + 1)

    def _values(self) -> Iterator[T]:
        if self._value is not None:
            yield self._value
        for child in self._children.values():
            yield from child._values()
