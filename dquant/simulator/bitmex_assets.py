"""The currencies of the simulated BitMEX: what ``GET /wallet/assets`` lists.

Written from the BitMEX fact sheet, sections 5.5 and 6.2. ``scale`` is the number of decimals between the
currency and the unit that money fields count (``XBt`` is 1e-8 XBT); amounts here are in that unit. Nothing
can be deposited or withdrawn: the networks say so.
"""

from typing import Any

Row = dict[str, Any]


def _asset(asset: str, currency: str, name: str, scale: int, network: str, is_margin: bool) -> Row:
    return {
        "asset": asset,
        "currency": currency,
        "majorCurrency": asset,
        "name": name,
        "currencyType": "Crypto",
        "scale": scale,
        "enabled": True,
        "isMarginCurrency": is_margin,
        "minDepositAmount": 10_000,
        "minWithdrawalAmount": 1_000,
        "maxWithdrawalAmount": 100_000_000_000_000,
        "memoRequired": False,
        "networks": [
            {
                "asset": network,
                "depositEnabled": False,
                "withdrawalEnabled": False,
                "withdrawalFee": 1_000,
                "minFee": 1_000,
                "maxFee": 10_000_000,
            }
        ],
    }


ASSETS = (
    _asset("USDT", "USDt", "USD Tether", 6, "eth", True),
    _asset("XBT", "XBt", "Bitcoin", 8, "btc", True),
    _asset("ETH", "Gwei", "Ethereum", 9, "eth", False),
)
