"""The parameters that all lists of BitMEX's REST share: which rows, from where, how many, which columns.

In: rows (dicts with an ISO ``timestamp``), oldest first, and a query as text. Out: the rows asked for, or
``BadRequest``. Written from the fact sheet, section 5.1. A filter's value may be a list of what is wanted;
``startTime`` and ``endTime`` may stand in it too, and parts of the timestamp (``timestamp.date``, ``.hh``;
"Timestamp filters" of the venue's page on its REST API). Key columns are always in a row.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from dquant.constants import NS_PER_MS
from dquant.simulator.bitmex_params import BadRequest
from dquant.simulator.bitmex_tables import Row, iso

COUNT, MAX_COUNT, MAX_COUNT_PRINTS = 100, 500, 1000
_MAX_START = 100_000_000
# Where a part of a timestamp stands in its text, by the engine's names: uu are minutes.
_PARTS = {
    "date": slice(0, 10),
    "month": slice(0, 7),
    "time": slice(11, 23),
    "hh": slice(11, 13),
    "uu": slice(14, 16),
    "ss": slice(17, 19),
}


def list_rows(
    rows: Iterable[Row],
    query: Mapping[str, str],
    is_of: Callable[[str, str], bool],
    most: int = MAX_COUNT,
    keys: tuple[str, ...] = (),
    wanted: Mapping[str, Any] | None = None,
) -> list[Row]:
    """Return the rows that a query asks for.

    Args:
        rows: All of them, oldest first.
        query: As sent.
        is_of: Tells whether a symbol is meant by what was asked for as one.
        most: The highest count.
        keys: Columns that are there even if others were asked for.
        wanted: A filter that has been read already.

    Raises:
        BadRequest: A parameter makes no sense.

    """
    checks = dict(read_filter(query) if wanted is None else wanted)
    symbol = query.get("symbol", "")
    since = _moment(query.get("startTime") or checks.pop("startTime", ""), "startTime")
    until = _moment(query.get("endTime") or checks.pop("endTime", ""), "endTime")
    allowed = {key: value if isinstance(value, list) else [value] for key, value in checks.items()}
    chosen = [
        row
        for row in rows
        if (not symbol or is_of(row.get("symbol", ""), symbol))
        and all(_fits(row, key, values) for key, values in allowed.items())
        and (since is None or row["timestamp"] >= since)
        and (until is None or row["timestamp"] <= until)
    ]
    if query.get("reverse", "").lower() in ("true", "1"):
        chosen.reverse()
    start = whole(query, "start", 0, _MAX_START)
    chosen = chosen[start : start + whole(query, "count", COUNT, most)]
    columns = [name for name in query.get("columns", "").strip('[]" ').replace('"', "").split(",") if name]
    if columns:
        kept = {"symbol", "timestamp", *keys, *(name.strip() for name in columns)}
        chosen = [{key: value for key, value in row.items() if key in kept} for row in chosen]
    return chosen


def _fits(row: Row, key: str, values: list[Any]) -> bool:
    """Return whether a row has one of these values, or its timestamp one of these parts."""
    column, _, part = key.partition(".")
    if column != "timestamp" or part not in _PARTS:
        return row.get(key) in values
    found = row["timestamp"][_PARTS[part]]
    if part == "time":
        return any(isinstance(value, str) and value and found.startswith(value) for value in values)
    # An hour is written 7 or "07".
    return found in [str(value).zfill(len(found)) for value in values]


def whole(query: Mapping[str, str], name: str, default: int, most: int) -> int:
    """Return a whole number of a query.

    Raises:
        BadRequest: It is none, or more than the venue takes.

    """
    text = query.get(name, "")
    if not text:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 9 or int(text) > most:
        raise BadRequest(f"'{name}' must be a whole number from 0 to {most}.", "ValidationError")
    return int(text)


def read_filter(query: Mapping[str, str]) -> Row:
    """Return the filter of a query.

    Raises:
        BadRequest: It is no JSON object.

    """
    text = query.get("filter", "")
    if not text:
        return {}
    try:
        wanted = json.loads(text)
    except (ValueError, RecursionError):
        wanted = None
    if not isinstance(wanted, dict):
        raise BadRequest("'filter' must be a JSON object.", "ValidationError")
    return wanted


def _moment(text: Any, name: str) -> str | None:
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return iso(int(moment.timestamp() * 1000) * NS_PER_MS)
    except (TypeError, ValueError, OverflowError, OSError):
        raise BadRequest(f"'{name}' must be an ISO 8601 time.", "ValidationError") from None
