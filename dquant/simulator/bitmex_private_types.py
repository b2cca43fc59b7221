"""Keys and types of the private tables of the simulated BitMEX, as their partials declare them.

Written from the fact sheet, sections 3.2 and 3.5: the type maps of 2025 with what 2026 added. The newest
backend's wallet and transact are unconfirmed there; theirs are the columns that REST shows.
"""

ORDER_TYPES = {
    "orderID": "guid", "clOrdID": "", "clOrdLinkID": "", "account": "long", "symbol": "symbol",
    "strategy": "symbol", "side": "symbol", "orderQty": "long", "price": "float", "displayQty": "long",
    "stopPx": "float", "pegOffsetValue": "float", "pegPriceType": "symbol", "currency": "symbol",
    "settlCurrency": "symbol", "ordType": "symbol", "timeInForce": "symbol", "execInst": "symbol",
    "contingencyType": "symbol", "ordStatus": "symbol", "triggered": "symbol", "workingIndicator": "boolean",
    "ordRejReason": "", "leavesQty": "long", "cumQty": "long", "avgPx": "float", "maxSlippagePct": "float",
    "text": "", "transactTime": "timestamp", "timestamp": "timestamp", "destination": "symbol",
    "pool": "symbol", "algoOrderDetails": "", "error": "",
}  # fmt: skip
EXECUTION_TYPES = {
    "execID": "guid", "orderID": "guid", "origClOrdID": "", "clOrdID": "", "clOrdLinkID": "",
    "account": "long", "symbol": "symbol", "strategy": "symbol", "side": "symbol", "lastQty": "long",
    "lastPx": "float", "lastLiquidityInd": "symbol", "orderQty": "long", "price": "float",
    "displayQty": "long", "stopPx": "float", "pegOffsetValue": "float", "pegPriceType": "symbol",
    "currency": "symbol", "settlCurrency": "symbol", "execType": "symbol", "ordType": "symbol",
    "timeInForce": "symbol", "execInst": "symbol", "contingencyType": "symbol", "ordStatus": "symbol",
    "triggered": "symbol", "workingIndicator": "boolean", "ordRejReason": "", "leavesQty": "long",
    "cumQty": "long", "avgPx": "float", "commission": "float", "brokerCommission": "float",
    "feeType": "symbol", "tradePublishIndicator": "symbol", "text": "", "trdMatchID": "guid",
    "execCost": "long", "execComm": "long", "execCommCcy": "symbol", "brokerExecComm": "long",
    "homeNotional": "float", "foreignNotional": "float", "transactTime": "timestamp",
    "timestamp": "timestamp", "realisedPnl": "long", "positionID": "guid", "trdType": "symbol",
    "maxSlippagePct": "float", "pool": "symbol", "destination": "symbol", "algoOrderDetails": "",
    "error": "", "tradePool": "symbol",
}  # fmt: skip
POSITION_TYPES = {
    "account": "long", "symbol": "symbol", "strategy": "symbol", "currency": "symbol",
    "underlying": "symbol", "quoteCurrency": "symbol", "commission": "float", "initMarginReq": "float",
    "maintMarginReq": "float", "riskLimit": "long", "leverage": "float", "crossMargin": "boolean",
    "deleveragePercentile": "float", "rebalancedPnl": "long", "prevRealisedPnl": "long",
    "prevUnrealisedPnl": "long", "openingQty": "long", "openOrderBuyQty": "long",
    "openOrderBuyCost": "long", "openOrderBuyPremium": "long", "openOrderSellQty": "long",
    "openOrderSellCost": "long", "openOrderSellPremium": "long", "currentQty": "long",
    "currentCost": "long", "currentComm": "long", "realisedCost": "long", "unrealisedCost": "long",
    "grossOpenPremium": "long", "isOpen": "boolean", "markPrice": "float", "markValue": "long",
    "riskValue": "long", "homeNotional": "float", "foreignNotional": "float", "posState": "symbol",
    "posCost": "long", "posCross": "long", "posComm": "long", "posLoss": "long", "posMargin": "long",
    "posMaint": "long", "posInit": "long", "initMargin": "long", "maintMargin": "long",
    "realisedPnl": "long", "unrealisedPnl": "long", "unrealisedPnlPcnt": "float",
    "unrealisedRoePcnt": "float", "avgCostPrice": "float", "avgEntryPrice": "float",
    "breakEvenPrice": "float", "marginCallPrice": "float", "liquidationPrice": "float",
    "bankruptPrice": "float", "timestamp": "timestamp",
}  # fmt: skip
MARGIN_TYPES = {
    "account": "long", "currency": "symbol", "riskLimit": "long", "state": "symbol", "amount": "long",
    "prevRealisedPnl": "long", "grossComm": "long", "grossOpenCost": "long", "grossOpenPremium": "long",
    "grossExecCost": "long", "grossMarkValue": "long", "riskValue": "long", "initMargin": "long",
    "maintMargin": "long", "targetExcessMargin": "long", "realisedPnl": "long", "unrealisedPnl": "long",
    "walletBalance": "long", "marginBalance": "long", "marginLeverage": "float", "marginUsedPcnt": "float",
    "excessMargin": "long", "availableMargin": "long", "withdrawableMargin": "long",
    "systemWithdrawableMargin": "long", "makerFeeDiscount": "float", "takerFeeDiscount": "float",
    "timestamp": "timestamp", "foreignMarginBalance": "long", "foreignRequirement": "long",
}  # fmt: skip
WALLET_TYPES = {
    "account": "long", "currency": "symbol", "deposited": "long", "withdrawn": "long", "transferIn": "long",
    "transferOut": "long", "amount": "long", "pendingCredit": "long", "pendingDebit": "long",
    "confirmedDebit": "long", "timestamp": "timestamp",
}  # fmt: skip
TRANSACT_TYPES = {
    "transactID": "guid", "account": "long", "currency": "symbol", "network": "symbol",
    "transactType": "symbol", "amount": "long", "fee": "long", "transactStatus": "symbol",
    "address": "symbol", "tx": "symbol", "orderID": "guid", "text": "", "walletBalance": "long",
    "transactTime": "timestamp", "timestamp": "timestamp",
}  # fmt: skip

PRIVATE_TYPES: dict[str, dict[str, str]] = {
    "order": ORDER_TYPES,
    "execution": EXECUTION_TYPES,
    "position": POSITION_TYPES,
    "margin": MARGIN_TYPES,
    "wallet": WALLET_TYPES,
    "transact": TRANSACT_TYPES,
    "privateNotifications": {
        "id": "long", "date": "timestamp", "title": "", "body": "", "ttl": "long", "type": "symbol",
        "closable": "boolean", "persist": "boolean", "waitForVisibility": "boolean", "sound": "",
    },
    "affiliate": {
        "account": "long", "currency": "symbol", "prevPayout": "long", "prevTurnover": "long",
        "prevComm": "long", "prevTimestamp": "timestamp", "execTurnover": "long", "execComm": "long",
        "totalReferrals": "long", "totalTurnover": "long", "totalComm": "long", "payoutPcnt": "float",
        "pendingPayout": "long", "timestamp": "timestamp", "referrerAccount": "float",
    },
}  # fmt: skip
PRIVATE_KEYS: dict[str, list[str]] = {
    "order": ["orderID"],
    "execution": [],
    "position": ["account", "symbol", "strategy"],
    "margin": ["account", "currency"],
    "wallet": ["account", "currency"],
    "transact": ["transactID"],
    "privateNotifications": ["id"],
    "affiliate": ["account", "currency"],
}
# Section 2.8: these belong to the account and take no symbol.
ACCOUNT_TABLES = frozenset({"margin", "wallet", "transact", "affiliate", "privateNotifications"})
