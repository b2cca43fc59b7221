"""The line at one price: who came first is filled first, and the background leaves from the back."""

from hypothesis import given
from hypothesis import strategies as st

from dquant.simulator.orders import BID, Kind, Order, OrderRequest
from dquant.simulator.queues import Queue


def order(number: int, lots: int) -> Order:
    return Order(number, "a", "a", OrderRequest("X", BID, lots, Kind.LIMIT, 100), 0)


def test_background_and_clients_stand_as_they_came():
    queue = Queue(30, 3)
    first, second = order(1, 5), order(2, 6)
    queue.add(first)
    queue.set_background(50, 4)
    queue.add(second)
    assert queue.line() == [30, first, 20, second]
    assert (queue.lots, queue.orders) == (61, 6)
    assert (queue.lots_before(first), queue.lots_before(second)) == (30, 55)
    queue.set_background(25, 2)
    assert queue.line() == [25, first, second]


def test_the_head_is_filled_in_parts():
    queue = Queue(10, 2)
    mine = order(1, 5)
    queue.add(mine)
    assert queue.take_background(4) == (4, 1)
    assert queue.take_background(100) == (6, 1)
    assert queue.head is mine
    assert queue.take_order(2) == 2
    mine.filled += 2
    assert (queue.lots, queue.orders) == (3, 1)
    assert queue.take_order(9) == 3
    assert (queue.head, queue.lots, queue.orders) == (None, 0, 0)


moves = st.one_of(
    st.tuples(st.just("background"), st.integers(0, 40)),
    st.tuples(st.just("add"), st.integers(1, 10)),
    st.tuples(st.just("remove"), st.integers(0, 5)),
    st.tuples(st.just("take"), st.integers(1, 15)),
)


@given(st.integers(1, 40), st.lists(moves, max_size=25))
def test_the_line_always_adds_up(background, script):
    queue, clients, numbers = Queue(background, 1), [], 0
    for move, count in script:
        if move == "background":
            queue.set_background(count, 1 if count else 0)
        elif move == "add":
            numbers += 1
            clients.append(order(numbers, count))
            queue.add(clients[-1])
        elif move == "remove" and clients:
            queue.remove(clients.pop(count % len(clients)))
        elif move == "take" and queue.head is not None:
            head = queue.head
            if isinstance(head, int):
                queue.take_background(count)
            else:
                assert head is clients[0]
                head.filled += queue.take_order(count)
                clients = [client for client in clients if client.left]
        line = queue.line()
        assert [item for item in line if not isinstance(item, int)] == clients
        assert sum(item for item in line if isinstance(item, int)) == queue.background
        assert sum(client.left for client in clients) == queue.client_lots
        assert all(item > 0 for item in line if isinstance(item, int))
        assert queue.client_orders == len(clients)
