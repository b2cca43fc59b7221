"""ccxt pointed at a simulated venue: its own classes, with other URLs and the simulated keys."""

from typing import Any

from report import WHERE

SYMBOL = "BTC/USD:BTC"  # the perpetual, at either venue


def exchange(module: Any, *, with_keys: bool = False) -> Any:
    """Return ccxt's exchange from ``ccxt``, ``ccxt.async_support`` or ``ccxt.pro``."""
    keys = {name: key for name, key in WHERE["keys"].items() if with_keys}
    if "passphrase" in keys:
        keys["password"] = keys.pop("passphrase")
    if WHERE["venue"] == "okex":
        client = module.okx(keys)
        client.urls["api"]["rest"] = WHERE["rest"]
    else:
        client = module.bitmex(keys)
        client.urls["api"]["public"] = client.urls["api"]["private"] = WHERE["rest"]
    if "ws" in client.urls["api"]:
        client.urls["api"]["ws"] = WHERE["ws"]
    return client
