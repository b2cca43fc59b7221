"""Orders that hang together: one cancels the other, one triggers the others.

In: an order that was filled, woke or ended. Out: what that means for those that share its link; the desk
does it. Pure, and no more than a reading of the account's open orders.

Written from BitMEX's announcement of contingent orders (the fact sheet, section 5.3, has their names only):

- Two orders with one link and ``OCO``: where one fills, be it in part, or wakes, the other is cancelled.
  Where one is cancelled the other goes on alone.
- An ``OTO`` order and others with its link: these sleep until it is filled to the end. That they are
  cancelled with it is an assumption. Two of them may be ``OCO`` to each other.
"""

from collections.abc import Iterator

from dquant.simulator.accounts import Account
from dquant.simulator.orders import Contingency, Order, OrderRequest, Refused, Why


def check_link(account: Account, request: OrderRequest) -> None:
    """Refuse an order whose link is taken already.

    Raises:
        Refused: Two others have it, or another one triggers by it.

    """
    kind = request.contingency
    if kind is None:
        return
    same = sum(order.request.contingency is kind for order in _linked(account, request.link))
    if same >= (2 if kind is Contingency.OCO else 1):
        raise Refused(Why.LINK, link=request.link)


def is_asleep(account: Account, link: str, contingency: Contingency | None) -> bool:
    """Return whether an order of this link has to wait for another one to be filled."""
    if not link or contingency is Contingency.OTO:
        return False
    return any(order.request.contingency is Contingency.OTO for order in _linked(account, link))


def sleepers(account: Account, primary: Order) -> list[Order]:
    """Return what waits for an order to be filled, oldest first."""
    return [order for order in _linked(account, primary.request.link) if order.asleep]


def rivals(account: Account, order: Order) -> list[Order]:
    """Return the orders that an order cancels when something of it happens."""
    if order.request.contingency is not Contingency.OCO:
        return []
    return [
        other
        for other in _linked(account, order.request.link)
        if other is not order and other.request.contingency is Contingency.OCO
    ]


def _linked(account: Account, link: str) -> Iterator[Order]:
    if link:
        yield from (order for order in account.orders.values() if order.request.link == link)
