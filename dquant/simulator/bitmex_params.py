"""Parameters of BitMEX requests: query and body, JSON or a form, to typed values or the venue's refusal.

Written from the fact sheet, sections 4, 5.1 and 5.6. Numbers go from text to ``Decimal`` or ``int``, never by
way of ``float``; JSON null counts as absent; the body wins over the query.
"""

import json
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any
from urllib.parse import parse_qsl

from dquant.simulator.venue import RestRequest

DEAD_MAN_LIMIT_MS = 86_400_000
_MAX_FIELDS = 200
_MAX_DIGITS = 40  # of a number; no field of an order needs more


class BadRequest(Exception):
    """The request cannot be served; message, name and details are the venue's."""

    def __init__(
        self, message: str, name: str = "HTTPError", *, status: int = 400, details: str | None = None
    ) -> None:
        super().__init__(message)
        self.message, self.name, self.status, self.details = message, name, status, details


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_float=Decimal, parse_constant=_refuse_constant)


def read_json(text: str) -> Any:
    """Return what JSON text says, numbers with a point as ``Decimal``.

    Raises:
        ValueError: It is not JSON, or nested too deep.

    """
    try:
        return _DECODER.decode(text)
    except RecursionError:
        raise ValueError("nested too deep") from None


class Params:
    """The parameters of one request."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = {name: value for name, value in values.items() if value is not None and value != ""}

    @classmethod
    def of(cls, request: RestRequest) -> "Params":
        """Read query and body of a request.

        Raises:
            BadRequest: The body is neither JSON nor a form.

        """
        values: dict[str, Any] = dict(request.query)
        if request.body.strip():
            values |= _read_body(request)
        return cls(values)

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def needs(self, name: str) -> None:
        """Refuse the request where a parameter is missing."""
        if name not in self._values:
            raise BadRequest(f"'{name}' is a required arg.")

    def text(self, name: str) -> str | None:
        """Return a text; numbers are taken for one."""
        value = self._values.get(name)
        if value is None or isinstance(value, str):
            return value
        if isinstance(value, (int, Decimal)) and not isinstance(value, bool):
            return str(value)
        raise BadRequest(f"Invalid {name}")

    def number(self, name: str) -> Decimal | None:
        """Return a finite number."""
        text = self.text(name)
        if text is None:
            return None
        try:
            number = Decimal(text) if len(text) <= _MAX_DIGITS else Decimal("NaN")
        except InvalidOperation:
            number = Decimal("NaN")
        if not number.is_finite() or abs(number.adjusted()) > _MAX_DIGITS:
            raise BadRequest(f"Invalid {name}")
        return number

    def whole(self, name: str) -> int | None:
        """Return a whole number, signed."""
        number = self.number(name)
        if number is None:
            return None
        if number != number.to_integral_value():
            raise BadRequest(f"Invalid {name}")
        return int(number)

    def flag(self, name: str) -> bool | None:
        """Return a boolean, of JSON or in words."""
        value = self._values.get(name)
        if value is None or isinstance(value, bool):
            return value
        words = {"true": True, "1": True, "false": False, "0": False}
        found = words.get(str(value).strip().lower())
        if found is None:
            raise BadRequest(f"Invalid {name}")
        return found

    def texts(self, name: str) -> list[str]:
        """Return a list of texts: a JSON array, one as text, a comma list or a single one."""
        value = self._values.get(name)
        if isinstance(value, str) and value.lstrip().startswith("["):
            try:
                value = read_json(value)
            except ValueError:
                raise BadRequest(f"Invalid {name}") from None
        if value is None:
            return []
        if isinstance(value, str):
            return [part for part in (piece.strip() for piece in value.split(",")) if part]
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise BadRequest(f"Invalid {name}")
        return value

    def table(self, name: str) -> dict[str, Any]:
        """Return a JSON object, as such or as text; empty where there is none."""
        value = self._values.get(name, {})
        if isinstance(value, str):
            try:
                value = read_json(value)
            except ValueError:
                value = None
        if not isinstance(value, dict):
            raise BadRequest(f"'{name}' must be a JSON object.", "ValidationError")
        return value


def _read_body(request: RestRequest) -> dict[str, Any]:
    try:
        text = request.body.decode()
        if "json" in request.headers.get("content-type", "").lower() or text.lstrip().startswith(("{", "[")):
            body = read_json(text)
        else:
            body = dict(parse_qsl(text, keep_blank_values=True, max_num_fields=_MAX_FIELDS))
    except ValueError:
        raise BadRequest("The body is neither JSON nor a form.", "ValidationError") from None
    if not isinstance(body, dict):
        raise BadRequest("The body must be a JSON object.", "ValidationError")
    return body


def dead_man_ms(timeout: int | None) -> int:
    """Return a timeout of the dead-man's switch that the venue takes.

    Raises:
        BadRequest: It is below zero or more than a day.

    """
    if timeout is None or not 0 <= timeout <= DEAD_MAN_LIMIT_MS:
        raise BadRequest("Invalid timeout")
    return timeout
