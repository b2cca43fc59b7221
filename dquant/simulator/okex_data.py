"""What the simulated OKX knows of an instrument: the objects that pushes and REST answers share.

In: a listing, its market in the flow, virtual time. Out: dicts with the venue's keys and string values.
Written from the fact sheet, sections 4 to 7 and 11.
"""

from typing import Any

from dquant.simulator.bars import Bar
from dquant.simulator.flow import FlowMarket
from dquant.simulator.flow_book import ASK, BID, Trade
from dquant.simulator.okex_instruments import Listing
from dquant.simulator.units import fixed, ms_text

_SIDES = {BID: "buy", ASK: "sell"}


def coin_amount(listing: Listing, contracts: float, price: float) -> float:
    """Return contracts (spot: coins) as an amount of the base coin."""
    if not listing.contract_value:
        return contracts
    if listing.is_inverse:
        return contracts * listing.contract_value / price
    return contracts * listing.contract_value


def ticker(listing: Listing, market: FlowMarket, now_ns: int) -> dict[str, Any]:
    """Return the ticker: last, best prices and the day."""
    book, day, price, size = market.book, market.day, market.tick.text, market.lot.text
    best = []
    for side, tick in ((ASK, book.best_ask), (BID, book.best_bid)):
        best.append(("", "") if tick is None else (price(tick), size(book.level(side, tick)[0])))
    volume = market.lot.number(day.lots)
    coins = coin_amount(listing, volume, market.tick.number(day.last_tick))
    # Spot counts its second volume in quote currency, derivatives in coin.
    second = coins * market.tick.number(day.last_tick) if listing.inst_type == "SPOT" else coins
    return {
        "instType": listing.inst_type,
        "instId": listing.inst_id,
        "last": price(day.last_tick),
        "lastSz": size(day.last_lots),
        "askPx": best[0][0],
        "askSz": best[0][1],
        "bidPx": best[1][0],
        "bidSz": best[1][1],
        "open24h": price(day.open),
        "high24h": price(max(day.high, day.last_tick)),
        "low24h": price(min(day.low, day.last_tick)),
        "volCcy24h": fixed(second, 4),
        "vol24h": fixed(volume, 8),
        "sodUtc0": price(day.sod_utc0),
        "sodUtc8": price(day.sod_utc8),
        "ts": ms_text(now_ns),
    }


def trade(market: FlowMarket, item: Trade, seq_id: int) -> dict[str, Any]:
    """Return one public trade as the ``trades`` channel says it: the maker fills of one price merged."""
    return {
        "instId": market.symbol,
        "tradeId": str(item.trade_id),
        "px": market.tick.text(item.tick),
        "sz": market.lot.text(item.lots),
        "side": _SIDES[item.side],
        "ts": ms_text(item.ts),
        "count": str(item.fills),
        "source": "0",
        "seqId": seq_id,
    }


def single_fills(market: FlowMarket, item: Trade) -> list[dict[str, Any]]:
    """Return the maker fills of a trade one by one, as ``trades-all`` does.

    Where a client took part they are those that its private fills tell of; sizes of the others are invented.
    """
    return [
        {
            "instId": market.symbol,
            "tradeId": str(trade_id),
            "px": market.tick.text(item.tick),
            "sz": market.lot.text(lots),
            "side": _SIDES[item.side],
            "source": "0",
            "ts": ms_text(item.ts),
        }
        for trade_id, lots in item.parts or _invented_parts(item)
    ]


def _invented_parts(item: Trade) -> list[tuple[int, int]]:
    """Return (trade id, lots) of maker fills that share a trade as evenly as can be."""
    parts, left = [], item.lots
    for place in range(item.fills):
        rest = item.fills - place
        lots = left if rest == 1 else max(1, left // rest)
        if left <= 0:
            break
        left -= lots
        parts.append((item.trade_id - item.fills + 1 + place, lots))
    return parts


def candle(listing: Listing, market: FlowMarket, bar: Bar, is_closed: bool) -> list[str]:
    """Return one candle: ``[ts, open, high, low, close, vol, volCcy, volCcyQuote, confirm]``."""
    price, volume = market.tick.text, market.lot.number(bar.lots)
    mean = market.tick.number(bar.value) / bar.lots if bar.lots else market.tick.number(bar.close)
    coins = coin_amount(listing, volume, mean)
    quote = coins * mean
    # Spot counts its second volume in quote currency, derivatives in coin.
    second = quote if listing.inst_type == "SPOT" else coins
    prices = [price(tick) for tick in (bar.open, bar.high, bar.low, bar.close)]
    volumes = [fixed(volume, 8), fixed(second, 8), fixed(quote, 8)]
    return [ms_text(bar.start), *prices, *volumes, "1" if is_closed else "0"]


def mark_price(listing: Listing, market: FlowMarket, now_ns: int) -> dict[str, Any]:
    """Return the mark price; the venue files that of a spot pair under MARGIN."""
    kind = "MARGIN" if listing.inst_type == "SPOT" else listing.inst_type
    return {
        "instId": listing.inst_id,
        "instType": kind,
        "markPx": fixed(market.mark, 2 if listing.coin == "ETH" else 1),
        "ts": ms_text(now_ns),
    }


def index_ticker(index_id: str, price: float, first: float, now_ns: int) -> dict[str, Any]:
    """Return an index; its day is drawn from the price at the start."""
    text = fixed(price, 1)
    high, low = max(price, first) * 1.004, min(price, first) * 0.996
    return {
        "instId": index_id,
        "idxPx": text,
        "high24h": fixed(high, 1),
        "low24h": fixed(low, 1),
        "open24h": fixed(first, 1),
        "sodUtc0": fixed(first, 1),
        "sodUtc8": fixed(first, 1),
        "ts": ms_text(now_ns),
    }


def funding_rate(listing: Listing, market: FlowMarket, now_ns: int) -> dict[str, Any]:
    """Return the funding of a perpetual."""
    funding = market.funding
    if funding is None:
        raise ValueError(f"{listing.inst_id} has no funding")
    return {
        "formulaType": "withRate",
        "fundingRate": f"{funding.rate:.16f}",
        "fundingTime": ms_text(funding.time),
        "impactValue": "20000.0000000000000000",
        "instId": listing.inst_id,
        "instType": listing.inst_type,
        "interestRate": "0.0001000000000000",
        "maxFundingRate": "0.00375",
        "method": "current_period",
        "minFundingRate": "-0.00375",
        "nextFundingRate": "",
        "nextFundingTime": ms_text(funding.next_time),
        "premium": f"{funding.premium:.16f}",
        "prevFundingTime": ms_text(funding.prev_time),
        "settFundingRate": f"{funding.settled_rate:.16f}",
        "settState": "settled",
        "ts": ms_text(now_ns),
    }


def limit_ticks(listing: Listing, market: FlowMarket, now_ns: int) -> tuple[int, int]:
    """Return the highest buy and the lowest sell price allowed, in ticks; section 11."""
    index, row = market.index, listing.row
    drift, widest = float(row["floatPxLmtPct"]), float(row["maxPxLmtPct"])
    premium = market.mark - index
    if listing.expiry_ns is not None and now_ns - listing.listed_ns < 600_000_000_000:
        first = float(row["initPxLmtPct"])
        highest, lowest = index * (1 + first), index * (1 - first)
    else:
        highest = min(max(index, index * (1 + drift) + premium), index * (1 + widest))
        lowest = max(min(index, index * (1 - drift) + premium), index * (1 - widest))
    return market.tick.nearest(highest), market.tick.nearest(lowest)


def price_limit(listing: Listing, market: FlowMarket, now_ns: int) -> dict[str, Any]:
    """Return the highest buy and the lowest sell price allowed."""
    highest, lowest = limit_ticks(listing, market, now_ns)
    return {
        "instId": listing.inst_id,
        "instType": listing.inst_type,
        "buyLmt": market.tick.text(highest),
        "sellLmt": market.tick.text(lowest),
        "ts": ms_text(now_ns),
        "enabled": True,
    }


def open_interest(listing: Listing, market: FlowMarket, now_ns: int) -> dict[str, Any]:
    """Return the open interest in contracts, coin and USD."""
    contracts = market.lot.number(market.open_interest)
    coins = coin_amount(listing, contracts, market.mark)
    return {
        "instId": listing.inst_id,
        "instType": listing.inst_type,
        "oi": fixed(contracts, 8),
        "oiCcy": fixed(coins, 8),
        "oiUsd": fixed(coins * market.index, 4),
        "ts": ms_text(now_ns),
    }


def estimated_price(
    listing: Listing, market: FlowMarket, now_ns: int, *, is_delivery: bool = True
) -> dict[str, Any]:
    """Return a delivery or daily settlement price as estimated now: index or mark, without averaging."""
    return {
        "instId": listing.inst_id,
        "instType": listing.inst_type,
        "settlePx": fixed(market.index if is_delivery else market.mark, 4),
        "settleType": "delivery" if is_delivery else "settlement",
        "ts": ms_text(now_ns),
    }


def status(now_ns: int, is_ongoing: bool = False) -> dict[str, Any]:
    """Return the last maintenance: over since an hour, or in the middle of it."""
    hour = 3_600_000_000_000
    end_ns = now_ns + hour if is_ongoing else now_ns - hour
    return {
        "begin": ms_text(end_ns - (2 * hour if is_ongoing else hour)),
        "end": ms_text(end_ns),
        "env": "1",
        "href": "",
        "maintType": "1",
        "preOpenBegin": "",
        "scheDesc": "",
        "serviceType": "5" if is_ongoing else "0",
        "state": "ongoing" if is_ongoing else "completed",
        "system": "unified",
        "title": "Simulated maintenance",
        "ts": ms_text(min(now_ns, end_ns)),
    }
