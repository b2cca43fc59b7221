"""ccxt's REST side on public market data."""

import ccxt
from ccxt_client import SYMBOL, exchange
from report import WHERE, attempt, tell

client = exchange(ccxt)
tell("version", ccxt.__version__)
markets = attempt("load_markets", client.load_markets)
attempt("fetch_ticker", client.fetch_ticker, SYMBOL)
attempt("fetch_tickers", client.fetch_tickers, [SYMBOL])
attempt("fetch_order_book", client.fetch_order_book, SYMBOL, 20)
attempt("fetch_trades", client.fetch_trades, SYMBOL)
attempt("fetch_ohlcv", client.fetch_ohlcv, SYMBOL, "1m", None, 50)
attempt("fetch_days", client.fetch_ohlcv, SYMBOL, "1d", None, 60)
attempt("fetch_funding_rate", client.fetch_funding_rate, SYMBOL)
attempt("fetch_funding_rate_history", client.fetch_funding_rate_history, SYMBOL, None, 10)
if WHERE["venue"] == "okex":
    attempt("fetch_funding_rates", client.fetch_funding_rates)
    attempt("fetch_time", client.fetch_time)
    attempt("fetch_status", client.fetch_status)
    attempt("fetch_mark_price", client.fetch_mark_price, SYMBOL)
    attempt("fetch_mark_prices", client.fetch_mark_prices)
    attempt("fetch_mark_ohlcv", client.fetch_mark_ohlcv, SYMBOL, "1h", None, 10)
    attempt("fetch_open_interest", client.fetch_open_interest, SYMBOL)
    attempt("index", client.public_get_market_index_tickers, {"instId": "BTC-USD"})
    attempt("fetch_unknown", client.public_get_market_ticker, {"instId": "BTC-USD-170331"})
else:
    tell("currencies", client.currencies)
    attempt("fetch_unknown", client.public_get_orderbook_l2, {})
