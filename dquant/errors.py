"""Every error that dquant raises on purpose; a class exists where somebody acts differently on it.

Facts are attributes, and the message is built from them. ``exit_code`` is what the
command line ends with when the error reaches it: 1 failed running, 2 usage or configuration.
"""


class DquantError(Exception):
    """Base of all errors of this project."""

    exit_code = 1


class ConfigError(DquantError):
    """A configuration value, a command-line argument or the environment is wrong.

    Args:
        what: What is wrong, naming the key and what is allowed.
        source: The file, variable or option that the value came from, if any.

    """

    exit_code = 2

    def __init__(self, what: str, source: str | None = None) -> None:
        self.what, self.source = what, source
        super().__init__(f"{source}: {what}" if source else what)


class VenueClosed(ConfigError):
    """The configuration marks the venue of this market as closed."""

    def __init__(self, market: str, venue: str, closed_at: str, instead: str, source: str) -> None:
        self.market, self.venue, self.closed_at, self.instead = market, venue, closed_at, instead
        super().__init__(f"{market}: {venue} closed on {closed_at}; use {instead} instead", source)


class MarketError(DquantError):
    """Something between this process and an exchange."""


class MarketUnreachable(MarketError):
    """No connection; worth trying again."""


class RateLimited(MarketError):
    """The exchange, or our own limiter, asks for a pause."""

    def __init__(self, what: str, retry_after_s: float) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(f"{what}: try again in {retry_after_s:g} s")


class LocalProtocolError(MarketError):
    """We asked for what the venue's guide forbids: a bug of ours."""


class RemoteProtocolError(MarketError):
    """The exchange sent what its guide rules out."""


class TapeError(DquantError):
    """A tape cannot be read; names the file and, where there is one, the line."""

    def __init__(self, path: str, what: str, line: int | None = None) -> None:
        self.path, self.line, self.what = path, line, what
        super().__init__(f"{path}:{line}: {what}" if line is not None else f"{path}: {what}")


class PipelineError(DquantError):
    """A side exit (Redis) is not there and the environment demands it."""


class WrongThreadError(DquantError):
    """A blocking door was called from the thread that it would block."""
