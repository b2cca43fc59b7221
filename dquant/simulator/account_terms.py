"""What a client may change of its account at an exchange: leverage, margin of its own, mode, deposits.

``Exchange`` is one of these; its module's docstring lists the doors. Here stands too how a refusal gets into
the ledger.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal

from dquant.simulator.accounts import PositionMode, leverage_group
from dquant.simulator.exchange_events import LeverageChanged, RequestRefused
from dquant.simulator.exchange_reader import ExchangeReader
from dquant.simulator.orders import PosSide, Refused, Why


class AccountTerms(ExchangeReader):
    """The doors of an exchange by which the terms of an account change."""

    def set_leverage(
        self,
        account: str,
        symbol: str,
        leverage: Decimal,
        pos_side: PosSide = PosSide.NET,
        *,
        is_isolated: bool = False,
    ) -> None:
        """Let another leverage hold for an instrument and its group, or for one isolated position.

        Raises:
            Refused: It is out of range, or the account could not carry what it has; an isolated position
                with open orders keeps the one it has.

        """
        with self._granting("set_leverage", account, symbol):
            holder, contract = self._account(account), self.contract(symbol)
            if not 0 < leverage <= contract.max_leverage:
                raise Refused(Why.LEVERAGE, highest=contract.max_leverage)
            group = leverage_group(contract, pos_side, is_isolated=is_isolated)
            before = holder.leverages.get(group)
            position = holder.positions.get((symbol, pos_side, True)) if is_isolated else None
            margin = 0 if position is None else position.margin
            if is_isolated and any(one.key == (symbol, pos_side, True) for one in holder.orders.values()):
                raise Refused(Why.IN_USE)
            holder.leverages[group] = leverage
            if position is not None and position.lots:
                value = abs(position.cost)
                position.margin = holder.initial_margin(contract, value, pos_side, is_isolated=True)
            free = self._margins_free(holder, contract.settle)
            own = symbol, pos_side, True
            missing = holder.missing_margin(own, self._clearing.mark) if is_isolated else -1
            if missing >= 0 or (free < 0 and leverage < (before or contract.default_leverage)):
                if before is None:
                    del holder.leverages[group]
                else:
                    holder.leverages[group] = before
                if position is not None:
                    position.margin = margin
                raise Refused(Why.MARGIN, coin=contract.settle, needed=max(-free, missing), available=0)
        self._clearing.emit(LeverageChanged, account, symbol=symbol, group=group, leverage=leverage)

    def isolate(self, account: str, symbol: str, *, is_isolated: bool, leverage: Decimal) -> None:
        """Give a net position margin of its own, or let it share the account's; its orders go with it.

        Raises:
            Refused: The leverage is out of range, or the account could not carry what it has.

        """
        with self._granting("isolate", account, symbol):
            holder, contract = self._account(account), self.contract(symbol)
            if not 0 < leverage <= contract.max_leverage:
                raise Refused(Why.LEVERAGE, highest=contract.max_leverage)
            position = holder.positions.get((symbol, PosSide.NET, True))
            margin = 0 if position is None else position.margin
            had_own = position is not None or any(
                order.symbol == symbol and order.request.is_isolated for order in holder.orders.values()
            )
            before = self._margins_free(holder, contract.settle)
            old = holder.leverage(contract, is_isolated=had_own)
            holder.isolate(contract, is_isolated=is_isolated, leverage=leverage)
            free = self._margins_free(holder, contract.settle)
            missing = holder.missing_margin((symbol, PosSide.NET, True), self._clearing.mark)
            if missing >= 0 or free < min(0, before):
                holder.isolate(contract, is_isolated=had_own, leverage=old)
                if position is not None:
                    position.margin = margin
                raise Refused(Why.MARGIN, coin=contract.settle, needed=max(-free, missing), available=0)
        group = leverage_group(contract, PosSide.NET, is_isolated=is_isolated)
        self._clearing.emit(LeverageChanged, account, symbol=symbol, group=group, leverage=leverage)

    def move_margin(self, account: str, symbol: str, amount: int) -> None:
        """Put so much (minor units) more aside for an isolated net position, or less where below zero.

        Raises:
            Refused: There is no such position, or too little is left of it or of the account.

        """
        with self._granting("move_margin", account, symbol):
            holder, contract = self._account(account), self.contract(symbol)
            position = holder.positions.get((symbol, PosSide.NET, True))
            if position is None or not position.lots:
                raise Refused(Why.NO_POSITION, symbol=symbol)
            needed = holder.initial_margin(contract, abs(position.cost), is_isolated=True)
            free = self._margins_free(holder, contract.settle)
            left = position.margin + min(0, position.unrealised(self._clearing.mark(symbol))) + amount
            if (amount < 0 and left < needed) or amount > free:
                raise Refused(Why.MARGIN, coin=contract.settle, needed=abs(amount), available=max(0, free))
            position.margin += amount

    def set_mode(self, account: str, mode: PositionMode) -> None:
        """Hold one position per instrument, or long and short apart; only where nothing is open."""
        with self._granting("set_mode", account):
            holder = self._account(account)
            if mode is not holder.mode and not holder.is_idle():
                raise Refused(Why.IN_USE)
        holder.mode = mode

    def transfer(self, account: str, coin: str, amount: Decimal) -> None:
        """Pay coins in, or out where below zero; what margin needs stays."""
        with self._granting("transfer", account):
            holder = self._account(account)
            if coin not in self._clearing.coins:
                raise Refused(Why.UNKNOWN_SYMBOL, coin=coin)
            units = int(amount.scaleb(self._clearing.coins[coin]))
            if units < 0 and self._margins_free(holder, coin) + units < 0:
                raise Refused(
                    Why.MARGIN, coin=coin, needed=-units, available=self._margins_free(holder, coin)
                )
        self._clearing.transfer(holder, coin, units)

    @contextmanager
    def _granting(
        self, verb: str, account: str, symbol: str = "", client_id: str = "", order_id: int = 0
    ) -> Iterator[None]:
        """Write a refusal into the ledger on its way to the venue."""
        try:
            yield
        except Refused as refused:
            self._write_refusal(refused, verb, account, symbol, client_id, order_id)
            raise

    def _write_refusal(
        self, refused: Refused, verb: str, account: str, symbol: str, client_id: str, order_id: int = 0
    ) -> None:
        self._clearing.write(
            RequestRefused,
            account,
            verb=verb,
            why=str(refused.why),
            symbol=symbol,
            client_id=client_id,
            order_id=order_id,
        )
