"""Who waits at one price of a book: background lots and clients' orders, first come, first filled.

Pure. The background is a number of lots that others set; clients' orders stand in it where they came. What
the background adds queues behind, what it takes away goes from the very back, so that a client's order moves
up only by what is filled or cancelled before it.
"""

from dquant.simulator.orders import Order


class Queue:
    """The line at one price of one side. ``background`` and ``client_lots`` add up to the level's size."""

    __slots__ = ("_line", "background", "background_orders", "client_lots", "client_orders")

    def __init__(self, background: int, background_orders: int) -> None:
        self.background, self.background_orders = background, background_orders
        self.client_lots = self.client_orders = 0
        self._line: list[Order | int] = [background] if background else []

    @property
    def lots(self) -> int:
        """All that rests here."""
        return self.background + self.client_lots

    @property
    def orders(self) -> int:
        """How many orders rest here."""
        return self.background_orders + self.client_orders

    @property
    def head(self) -> Order | int | None:
        """Who is filled next: a client's order, or background lots."""
        return self._line[0] if self._line else None

    def line(self) -> list[Order | int]:
        """Return everybody in turn; numbers are background lots."""
        return list(self._line)

    def lots_before(self, order: Order) -> int:
        """Return what has to be filled before this order."""
        ahead = 0
        for item in self._line:
            if item is order:
                return ahead
            ahead += item if isinstance(item, int) else item.left
        raise ValueError(f"order {order.order_id} does not wait here")

    def add(self, order: Order) -> None:
        """Let an order wait behind everybody."""
        self._line.append(order)
        self.client_lots += order.left
        self.client_orders += 1

    def remove(self, order: Order) -> None:
        """Take an order out of the line."""
        self._line.remove(order)
        self.client_lots -= order.left
        self.client_orders -= 1

    def set_background(self, lots: int, orders: int) -> None:
        """Let the background have this much here."""
        more = lots - self.background
        self.background, self.background_orders = lots, orders if lots else 0
        if more > 0:
            self._push(more)
        place = len(self._line) - 1
        while more < 0:
            item = self._line[place]
            if isinstance(item, int):
                gone = min(item, -more)
                more += gone
                if gone == item:
                    del self._line[place]
                else:
                    self._line[place] = item - gone
            place -= 1

    def take_background(self, lots: int) -> tuple[int, int]:
        """Fill up to this much of the background at the head; return the lots and orders filled."""
        head = self._line[0]
        assert isinstance(head, int)
        taken = min(lots, head)
        left = self.background - taken
        filled = (
            max(1, self.background_orders * taken // self.background)
            if left
            else max(1, self.background_orders)
        )
        self.background, self.background_orders = left, max(1, self.background_orders - filled) if left else 0
        if taken == head:
            del self._line[0]
        else:
            self._line[0] = head - taken
        return taken, filled

    def take_order(self, lots: int) -> int:
        """Note that this much of the order at the head is about to be filled; return how much it can be."""
        head = self._line[0]
        assert isinstance(head, Order)
        taken = min(lots, head.left)
        self.client_lots -= taken
        if taken == head.left:
            del self._line[0]
            self.client_orders -= 1
        return taken

    def _push(self, lots: int) -> None:
        last = self._line[-1] if self._line else None
        if isinstance(last, int):
            self._line[-1] = last + lots
        else:
            self._line.append(lots)
