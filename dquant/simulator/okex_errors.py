"""The refusals of the simulated OKX: error codes, their words, and the HTTP status they come with.

In: a code and what stands in the gaps of its words. Out: ``OkexError``, which REST answers in its envelope
and a trading operation as ``sCode``, ``sMsg``, ``subCode``. Written from the fact sheet, section 10; words
and HTTP statuses are those of the guide's error page (2026-06-15).
"""

BAD_REQUEST, UNAUTHORIZED, TOO_MANY = 400, 401, 429

WORDS = {
    "404": "Invalid endpoint",
    "50000": "Body for POST request cannot be empty.",
    "50001": "Service temporarily unavailable. Please try again later.",
    "50002": "JSON syntax error",
    "50004": "API endpoint request timeout. (does not mean that the request was successful or failed, "
    "please check the request result).",
    "50005": "API endpoint is inaccessible",
    "50006": 'Invalid Content-Type. Please use "application/JSON".',
    "50011": "Rate limit reached. Please refer to API documentation and throttle requests accordingly.",
    "50013": "Systems are busy. Please try again later.",
    "50014": "Parameter {0} can not be empty.",
    "50015": "Either parameter {0} or {1} is required",
    "50016": "Parameter {0} does not match parameter {1}",
    "50024": "Parameter {0} and {1} can not exist at the same time.",
    "50025": "Parameter {0} count exceeds the limit {1}.",
    "50026": "System error. Try again later",
    "50036": "The expTime can't be earlier than the current system time. "
    "Please adjust the expTime and try again.",
    "50037": "Order expired.",
    "50061": "You've reached the maximum order rate limit for this account.",
    "50038": "This feature is unavailable in demo trading",
    "50072": "Isolated margin is not supported in multi-currency margin and portfolio margin mode.",
    "50100": "API frozen, please contact customer service.",
    "50101": "APIKey does not match current environment.",
    "50102": "Timestamp request expired",
    "50103": 'Request header "OK-ACCESS-KEY" cannot be empty.',
    "50104": 'Request header "OK-ACCESS-PASSPHRASE" cannot be empty.',
    "50105": 'Request header "OK-ACCESS-PASSPHRASE" incorrect.',
    "50106": 'Request header "OK-ACCESS-SIGN" cannot be empty.',
    "50107": 'Request header "OK-ACCESS-TIMESTAMP" cannot be empty.',
    "50110": "Your IP {0} is not included in your API key's IP whitelist.",
    "50111": "Invalid OK-ACCESS-KEY.",
    "50112": "Invalid OK-ACCESS-TIMESTAMP.",
    "50113": "Invalid signature.",
    "50114": "Invalid authorization.",
    "50115": "Invalid request method.",
    "50119": "API key doesn't exist",
    "50120": "This API key doesn't have permission to use this function",
    # The venue writes 51000 of an order with these blanks (recorded).
    "51000": "Parameter {0}  error ",
    "51001": "Instrument ID, Instrument ID code, or Spread ID doesn't exist.",
    "51002": "Instrument ID doesn't match underlying index.",
    "51003": "Either client order ID or order ID is required.",
    "51005": "Your order amount exceeds the max order amount.",
    "51006": "Order price is not within the price limit (max buy price: {0} , min sell price: {1} )",
    "51008": "Order failed. Insufficient {0} margin in account",
    "51010": "Request unsupported under current account mode",
    "51015": "Instrument ID doesn't match instrument type.",
    "51016": "Client order ID already exists.",
    "51020": "Your order should meet or exceed the minimum order amount.",
    "51021": "The pair or contract is not yet listed",
    "51022": "Contract suspended.",
    "51023": "Position doesn't exist.",
    "51025": "Order count exceeds the limit.",
    "51027": "Contract expired.",
    "51028": "Contract under delivery.",
    "51029": "Contract is being settled.",
    "51030": "Funding fee is being settled. Please try again later.",
    "51039": "Leverage cannot be adjusted for the cross positions of Expiry Futures and Perpetual Futures "
    "under the PM account.",
    "51041": "Portfolio margin account only supports net mode.",
    "51071": "You've reached the maximum limit for tag level cancel all after timers.",
    "51101": "Order failed, the sz of the current order can’t be more than {0} (contracts).",
    "51102": "Order failed, the number of pending orders for this instId can’t be more than {0} (orders)",
    "51109": "No available offers.",
    "51111": "Maximum {0} orders can be placed in bulk.",
    "51112": "Close order size exceeds available size for this position.",
    "51115": "Cancel all pending close-orders before liquidation.",
    "51121": "Order quantity must be a multiple of the lot size.",
    "51131": "Insufficient balance.",
    "51149": "Order timed out. Please try again. (does not mean that the request was successful or failed, "
    "please check the request result)",
    "51169": "Order failed because you don't have any positions in this direction for this contract to "
    "reduce or close.",
    "51170": "Failed to place order. A reduce-only order can’t be the same trading direction as your "
    "existing positions.",
    "51202": "Market order amount exceeds the maximum amount.",
    "51400": "Cancellation failed as the order has been filled, canceled or does not exist.",
    "51411": "Account does not have permission for mass cancellation.",
    "51500": "You must enter a price, quantity, or TP/SL",
    "51501": "Maximum {0} orders can be modified.",
    "51502": "Unable to edit order: insufficient balance or margin.",
    "51503": "Your order has already been filled or canceled.",
    "51506": "Order modification unavailable for the order type.",
    "51511": "Modification failed as the order price did not meet the requirement for Post Only.",
    "51512": "Failed to amend orders in batches. You cannot have duplicate orders in the same "
    "amend-batch-orders request.",
    "51513": "Number of modification requests that are currently in progress for an order cannot exceed "
    "3 times.",
    "51603": "Order does not exist",
    "54012": "Due to insufficient order book depth, we are now taking measures to protect your positions. "
    "Currently, you can only cancel orders, add margin to your positions, and place post-only orders. Your "
    "positions will not be liquidated. Trade will resume once order book depth returns to a safe level.",
    "54036": "You can't place fill or kill orders when self-trade prevention is set to both maker and taker "
    "orders.",
    "59000": "Settings failed. Close any open positions or orders before modifying settings.",
    "59101": "Leverage can't be modified. Please cancel all pending isolated margin orders before adjusting "
    "the leverage.",
    "59102": "Leverage exceeds the maximum limit. Please lower the leverage.",
    "59105": "Leverage can't be less than {0}. Please increase the leverage.",
    "59107": "Leverage can't be modified. Please cancel all pending cross-margin orders before adjusting the "
    "leverage.",
    "60013": "Invalid args",
    "59108": "Your account leverage is too low and has insufficient margins. Please increase the leverage.",
}
_STATUS = {
    **dict.fromkeys(("50000", "50002", "50004", "50006", "50014", "50015", "50016", "51000"), BAD_REQUEST),
    **dict.fromkeys(("51501", "59105"), BAD_REQUEST),
    **{code: UNAUTHORIZED for code in WORDS if "50101" <= code <= "50114"},
    **dict.fromkeys(("50013", "51115"), TOO_MANY),
    "404": 404,
    "50001": 503,
    "50026": 500,
    "50115": 405,
    "50005": 410,
    "50119": UNAUTHORIZED,
    "51149": 500,
}


def refusal(code: str) -> "OkexError":
    """Return a refusal by any code, whatever stands in the gaps of its words."""
    return OkexError(code, message=WORDS.get(code, "Operation failed.").format("?", "?"))


class OkexError(Exception):
    """A refusal.

    Args:
        code: Of section 10.
        params: What stands in the gaps of its words.
        message: Other words than the code's own.
        status: Another HTTP status than the code's own.
        sub_code: What a trading operation says in ``subCode``.

    """

    def __init__(
        self, code: str, *params: object, message: str | None = None, status: int = 0, sub_code: str = ""
    ) -> None:
        self.code, self.sub_code = code, sub_code
        self.message = WORDS[code].format(*params) if message is None else message
        self.status = status or _STATUS.get(code, 200)
        super().__init__(f"{code}: {self.message}")

    def envelope(self) -> dict[str, object]:
        """Return the body of an answer; one about the headers comes without ``data``."""
        frame: dict[str, object] = {"code": self.code, "data": [], "msg": self.message}
        if self.status == UNAUTHORIZED:
            del frame["data"]
        return frame
