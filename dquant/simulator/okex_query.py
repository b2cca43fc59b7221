"""Reading the query of a private REST request: values that must be there or be numbers, and pages.

Raises ``OkexError`` 50014 or 51000, as the venue does.
"""

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import TypeVar

from dquant.simulator.okex_errors import OkexError

Query = Mapping[str, str]
MOST_IN_PAGE = 100

T = TypeVar("T")


def given(query: Query, name: str) -> str:
    """Return a value, empty where it is not given."""
    return query.get(name, "")


def needed(query: Query, name: str) -> str:
    """Return a value that must be given."""
    value = query.get(name, "")
    if not value:
        raise OkexError("50014", name)
    return value


def one_of(query: Query, name: str, allowed: tuple[str, ...]) -> str:
    """Return a value that must be given and be one of these."""
    value = needed(query, name)
    if value not in allowed:
        raise OkexError("51000", name)
    return value


def number(text: str, name: str) -> Decimal:
    """Return a number, without sign and exponent."""
    plain = text.replace(".", "", 1)
    if not (plain.isascii() and plain.isdecimal()) or len(plain) > 30:
        raise OkexError("51000", name)
    return Decimal(text)


def page(
    rows: list[T],
    query: Query,
    id_of: Callable[[T], int],
    parse: Callable[[str], int | None],
    most: int = 100,
) -> list[T]:
    """Return one page of rows that come newest first: ``after`` is older, ``before`` newer than an id."""
    limit = min(int(number(query.get("limit") or str(most), "limit")), most)
    for name in ("after", "before"):
        text = query.get(name)
        if not text:
            continue
        edge = parse(text)
        if edge is None:
            raise OkexError("51000", name)
        rows = [row for row in rows if (id_of(row) < edge if name == "after" else id_of(row) > edge)]
    return rows[: max(limit, 1)]
