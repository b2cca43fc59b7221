"""Market names, and markets made from them.

``<exchange>_<kind>_<pair>[_<alias>]`` names a market; the table below reads as what each
stands for. The earlier program's meta codes (``btc_usd_this_week``) are what the market classes
are given, as ever.
"""

import difflib
from collections.abc import Sequence

from dquant.config import MyConfiguration
from dquant.errors import ConfigError, VenueClosed
from dquant.markets.bitmex._bitmex_future_rest import BitmexFutureRest
from dquant.markets.bitmex._bitmex_future_ws import BitmexFutureWs
from dquant.markets.conversation import ConnectionSettings
from dquant.markets.face import Face, MarketSink, MarketSpec
from dquant.markets.market import Market
from dquant.markets.okex._okex_future_rest import OkexFutureRest
from dquant.markets.okex._okex_future_ws import OkexFutureWs
from dquant.util import share_one_arena

# The names' aliases against the venue's words, which the meta codes use too.
ALIASES = {
    "thisweek": "this_week",
    "nextweek": "next_week",
    "thismonth": "this_month",
    "quarter": "quarter",
    "nextquarter": "next_quarter",
}
COINS = {"btc": ("BTC-USD", "100 USD"), "eth": ("ETH-USD", "10 USD")}


def _okex_future(coin: str, name_alias: str) -> MarketSpec:
    family, contract = COINS[coin]
    alias = ALIASES[name_alias]
    return MarketSpec(
        name=f"okex_future_{coin}usd_{name_alias}",
        venue="okex",
        meta_code=f"{coin}_usd_{alias}",
        kind="future",
        family=family,
        inst_id=None,
        alias=alias,
        contract=contract,
        title=f"{family} future, {alias.replace('_', ' ')}",
    )


SPECS: dict[str, MarketSpec] = {
    spec.name: spec
    for spec in (
        *(_okex_future(coin, alias) for coin in COINS for alias in ALIASES),
        # name, venue, meta code, kind, family, instrument, alias, contract, title
        MarketSpec(
            "okex_swap_btcusd", "okex", "btc_usd_swap", "swap", "BTC-USD", "BTC-USD-SWAP", None, "100 USD",
            "BTC-USD inverse perpetual",
        ),
        MarketSpec(
            "okex_swap_btcusdt", "okex", "btc_usdt_swap", "swap", "BTC-USDT", "BTC-USDT-SWAP", None,
            "0.01 BTC", "BTC-USDT linear perpetual",
        ),
        MarketSpec(
            "okex_spot_btcusdt", "okex", "btc_usdt", "spot", "BTC-USDT", "BTC-USDT", None, "1 BTC",
            "BTC-USDT spot",
        ),
        MarketSpec(
            "bitmex_future_btcusd", "bitmex", "btc_usd", "swap", "XBTUSD", "XBTUSD", None, "1 USD",
            "XBTUSD inverse perpetual",
        ),
        MarketSpec(
            "bitmex_future_ethusd", "bitmex", "eth_usd", "swap", "ETHUSD", "ETHUSD", None,
            "0.000001 XBT a USD", "ETHUSD quanto perpetual",
        ),
    )
}  # fmt: skip


def specs_of(names: Sequence[str], source: str) -> list[MarketSpec]:
    """Return what each market name stands for.

    Raises:
        ConfigError: No name, an unknown one, or one given twice; ``source`` names the option or file.

    """
    if not names:
        raise ConfigError("markets: none given; the verb `markets` lists the names", source)
    specs = []
    for name in names:
        spec = SPECS.get(name)
        if spec is None:
            near = difflib.get_close_matches(name, SPECS, n=1)
            hint = f"did you mean {near[0]}?" if near else "the verb `markets` lists the names"
            raise ConfigError(f"markets: {name!r} is not a market; {hint}", source)
        if spec in specs:
            raise ConfigError(f"markets: {name} is given twice", source)
        specs.append(spec)
    return specs


def check_venues_open(specs: Sequence[MarketSpec], cfg: MyConfiguration) -> None:
    """Refuse markets of a venue that the configuration marks as closed.

    Raises:
        VenueClosed: Names what closed, when, and what to use instead.
        ConfigError: What to use instead is no market.

    """
    for venue in VENUE_TITLES:
        key = f"{venue}_use_instead"
        instead = getattr(cfg, key)
        if instead and instead not in SPECS:
            raise ConfigError(
                f"{key}: {instead!r} is not a market; the verb `markets` lists the names", cfg.source_of(key)
            )
    for spec in specs:
        closed_at = getattr(cfg, f"{spec.venue}_closed_at")
        if closed_at:
            instead = getattr(cfg, f"{spec.venue}_use_instead") or "a market of another venue"
            key = f"{spec.venue}_closed_at"
            title = VENUE_TITLES[spec.venue]
            raise VenueClosed(spec.name, title, closed_at, instead, f"{cfg.source_of(key)} [{key}]")


VENUE_TITLES = {"okex": "OKX", "bitmex": "BitMEX"}


def connection_settings(cfg: MyConfiguration) -> ConnectionSettings:
    """Return the keys of ``[connection]`` as the faces take them."""
    return ConnectionSettings(
        transport=cfg.transport,
        connect_timeout_s=cfg.connect_timeout_s,
        rest_timeout_s=cfg.rest_timeout_s,
        reconnect_base_s=cfg.reconnect_base_s,
        reconnect_ceiling_s=cfg.reconnect_ceiling_s,
        book_silence_s=cfg.book_silence_s,
        book_lag_s=cfg.book_lag_s,
    )


def create_markets(
    names: Sequence[str],
    cfg: MyConfiguration | None = None,
    addresses: dict[str, tuple[str, str]] | None = None,
) -> list[Market]:
    """Make one market, not yet started, for each name.

    Args:
        names: Market names, as ``-m`` takes them.
        cfg: The configuration; that of this process where none is given.
        addresses: REST and websocket address by venue, for the simulated venues; else the configuration's.

    Raises:
        ConfigError: A name is unknown, a venue has no address, or (``VenueClosed``) is closed.

    """
    if cfg is None:
        cfg = MyConfiguration()
    specs = specs_of(names, "markets")
    check_venues_open(specs, cfg)
    share_one_arena()
    return [_create_market(spec, cfg, addresses or {}) for spec in specs]


def _create_market(spec: MarketSpec, cfg: MyConfiguration, addresses: dict[str, tuple[str, str]]) -> Market:
    settings = connection_settings(cfg)
    rest_url, ws_url = addresses.get(
        spec.venue, (getattr(cfg, f"{spec.venue}_rest_url"), getattr(cfg, f"{spec.venue}_ws_url"))
    )
    for key, value in (("rest_url", rest_url), ("ws_url", ws_url)):
        if not value:
            raise ConfigError(
                f"{spec.venue}_{key} is empty, and {spec.name} needs it; set it, "
                "or in dev simulated_venues = yes and no address of that venue",
                str(cfg.path),
            )

    def make_face(sink: MarketSink) -> Face:
        if spec.venue == "okex":
            return OkexFutureWs(
                spec, OkexFutureRest(rest_url, settings.rest_timeout_s), ws_url, settings, sink
            )
        return BitmexFutureWs(
            spec, BitmexFutureRest(rest_url, settings.rest_timeout_s), ws_url, settings, sink
        )

    return Market(
        spec,
        cfg.environment,
        make_face,
        takes_tops=spec.venue == "okex",
        switch_interval_s=cfg.switch_interval_us / 1e6,
        depth_levels=cfg.depth_levels,
        depth_interval_s=cfg.depth_interval_ms / 1e3,
    )
