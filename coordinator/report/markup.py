"""HTML and SVG as nested calls; whatever is not `Html` already is escaped, so nothing a device says becomes markup."""

from collections.abc import Iterable, Sequence
from html import escape

LONGEST_TEXT = 300
LONGEST_WORD = 24
"""Of a table's cell that is not broken into lines."""


class Html(str):
    """Text that is markup already; only `tag`, `join` and the constants of this package make it."""

    __slots__ = ()


def text(words: str) -> Html:
    """Escaped words; `Html` stays as it is, and control characters become the replacement character."""
    return words if isinstance(words, Html) else _escaped(words)


def shortened(words: str) -> str:
    """The first words of a text that somebody else wrote."""
    return words if len(words) <= LONGEST_TEXT else words[:LONGEST_TEXT] + "\N{HORIZONTAL ELLIPSIS}"


def join(parts: Iterable[str]) -> Html:
    """The parts one after the other, each escaped where it is not `Html`."""
    return Html("".join(text(part) for part in parts))


def tag(name: str, *children: str, **attributes: str | float) -> Html:
    """An element; attribute `class_` is written class, `text_anchor` text-anchor, numbers with at most 2 decimals."""
    written = "".join(f' {_attribute(key)}="{_value(value)}"' for key, value in attributes.items())
    return Html(f"<{name}{written}>{join(children)}</{name}>")


def table(head: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "numbers") -> Html:
    """A table that scrolls sideways by itself; of kind `numbers` all columns but the first are flush right."""
    header = tag("thead", tag("tr", *(tag("th", cell, scope="col") for cell in head)))
    body = tag(
        "tbody", *(tag("tr", tag("th", row[0], scope="row"), *(_cell(cell) for cell in row[1:])) for row in rows)
    )
    return tag("div", tag("table", header, body, class_=kind), class_="scroll", tabindex=0)


def details(label: str, *children: str) -> Html:
    """Content behind a label that opens it."""
    return tag("details", tag("summary", label), *children)


def _cell(content: str) -> Html:
    return tag("td", content, class_="prose") if len(content) > LONGEST_WORD else tag("td", content)


def _attribute(key: str) -> str:
    return key.removesuffix("_").replace("_", "-")


def _value(value: str | float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else _escaped(str(value))


def _escaped(words: str) -> Html:
    return Html(escape("".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in words)))
