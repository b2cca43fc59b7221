"""The monitor over a real server: lines, JSON, patterns, restarts, silence, the table."""

import asyncio
import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest

from dquant.pipeline.monitor_model import MonitorModel
from dquant.pipeline.monitor_subscriber import MonitorSubscriber
from dquant.pipeline.publisher import Publisher
from dquant.pipeline.redis_link import RedisSettings
from tests.pipeline.monitoring import monitoring


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
async def publisher(server):
    publisher = Publisher(server.settings, "dev", "okex_future_btcusd_thisweek")
    publisher.start()
    yield publisher
    await publisher.close()


async def test_a_monitor_ends_in_time_wherever_in_connecting_it_is_caught(server):
    """redis-py loses a cancellation that comes at the wrong moment."""
    for step in range(60):
        async with asyncio.timeout(5):
            await MonitorSubscriber(["price", "health"], server.settings).run(
                step * 0.0004, stream=io.StringIO()
            )


async def test_json_passes_the_records_through_unchanged(server, publisher, records, tail, eventually):
    stream = io.StringIO()
    async with (
        tail(server.port, "price", "health") as got,
        monitoring(server.settings, as_json=True, stream=stream) as monitor,
    ):
        await eventually(lambda: monitor.is_subscribed and publisher.is_connected)
        publisher.publish_price(records.live())
        publisher.publish_price(records.stale())
        publisher.publish_health(records.health())
        await eventually(lambda: monitor.model.records == 3 and len(got) == 3)

    assert [json.loads(line) for line in stream.getvalue().splitlines()] == [record for _, record in got]


async def test_a_handler_of_ones_own_takes_the_records_of_the_configured_redis(
    server, publisher, records, eventually, monkeypatch
):
    """What the page of formats shows."""
    from dquant import config

    cfg = config.MyConfiguration("dev", {"DQUANT_REDIS_PORT": str(server.port)})
    monkeypatch.setattr(config, "_loaded", cfg)
    monitor = MonitorSubscriber(["price", "health"])
    bids = []
    monitor.methods["price"] = lambda price: bids.append(price.bid)
    stream = io.StringIO()
    task = asyncio.create_task(monitor.run(count=2, stream=stream))
    await eventually(lambda: monitor.is_subscribed and publisher.is_connected)
    publisher.publish_price(records.live(5.0))
    publisher.publish_price(records.live(6.0))
    await asyncio.wait_for(task, 5)

    assert (bids, stream.getvalue()) == ([5.0, 6.0], "")


async def test_it_ends_by_itself_after_count_records(server, publisher, records, eventually):
    stream = io.StringIO()
    monitor = MonitorSubscriber(["price"], server.settings)
    task = asyncio.create_task(monitor.run(count=2, as_json=True, stream=stream))
    await eventually(lambda: monitor.is_subscribed and publisher.is_connected)
    for _ in range(5):
        publisher.publish_price(records.live())
    async with asyncio.timeout(5):
        await task

    assert len(stream.getvalue().splitlines()) == 2


async def test_it_ends_by_itself_after_its_duration_even_without_a_server(unused_port):
    started = time.monotonic()
    await MonitorSubscriber([], RedisSettings(port=unused_port)).run(duration=0.3, stream=io.StringIO())

    assert time.monotonic() - started < 3.0


async def test_a_stream_whose_reader_left_is_an_ordinary_end(server, publisher, records, eventually, caplog):
    reading, writing = os.pipe()
    stream = os.fdopen(writing, "w")
    monitor = MonitorSubscriber(["price"], server.settings)
    task = asyncio.create_task(monitor.run(stream=stream))
    await eventually(lambda: monitor.is_subscribed and publisher.is_connected)
    os.close(reading)
    publisher.publish_price(records.live())
    await asyncio.wait_for(task, 5)
    with contextlib.suppress(BrokenPipeError):
        stream.close()

    assert (monitor.subscriptions, monitor.faults) == (1, 0)
    assert "Redis" not in caplog.text


async def test_a_handler_that_fails_is_no_fault_of_redis(server, publisher, records, eventually, caplog):
    """Even where it raises what a lost connection would raise."""
    monitor = MonitorSubscriber(["price"], server.settings)
    seen = []

    def fail(price):
        seen.append(price.bid)
        raise ConnectionResetError("the database of somebody")

    monitor.methods["price"] = fail
    task = asyncio.create_task(monitor.run(count=3, stream=io.StringIO()))
    await eventually(lambda: monitor.is_subscribed and publisher.is_connected)
    for number in range(3):
        publisher.publish_price(records.live(float(number)))
        await eventually(lambda: monitor.faults == len(seen) > number)  # noqa: B023 - waited for at once
    await asyncio.wait_for(task, 5)

    assert (seen, monitor.faults, monitor.subscriptions) == ([0.0, 1.0, 2.0], 3, 1)
    assert caplog.text.count("Traceback") == 1, "once a minute"
    assert "Redis" not in caplog.text


async def test_a_pattern_brings_each_record_once(server, publisher, records, eventually):
    stream = io.StringIO()
    async with monitoring(server.settings, "price*", as_json=True, stream=stream) as monitor:
        await eventually(lambda: monitor.is_subscribed and publisher.is_connected)
        for _ in range(3):
            publisher.publish_price(records.live())
        publisher.publish_health(records.health())
        await eventually(lambda: monitor.model.records == 3)

    assert [json.loads(line)["seq"] for line in stream.getvalue().splitlines()] == [1, 2, 3]


async def test_plain_lines_say_simulated_stale_and_only_news_of_health(
    server, publisher, records, eventually
):
    stream = io.StringIO()
    channels = ("price", "health", "depth", "trade")
    async with monitoring(server.settings, *channels, stream=stream) as monitor:
        await eventually(lambda: monitor.is_subscribed and publisher.is_connected)
        for _ in range(3):
            publisher.publish_health(records.health())
        publisher.publish_price(records.live())
        publisher.publish_price(records.stale("crossed"))
        publisher.publish_depth(records.depth())
        publisher.publish_trade(records.trade())
        await eventually(lambda: monitor.model.records == 7)

    lines = stream.getvalue().splitlines()
    assert len(lines) == 5, "three equal heartbeats are one line"
    assert all(line.startswith("SIMULATED ") for line in lines)
    assert [line for line in lines if "stale: crossed" in line and "84093" not in line]


async def test_words_of_somebody_else_do_not_command_the_terminal(
    server, publisher, records, eventually, caplog
):
    """Whoever may publish there may put escape sequences and new lines into names and reasons."""
    stream = io.StringIO()
    async with monitoring(server.settings, stream=stream) as monitor:
        await eventually(lambda: monitor.is_subscribed and publisher.is_connected)
        publisher.publish_price(records.live(market="\x1b[2Jev\nil"))
        publisher.publish_price(records.stale("\x1b]0;evil\a\n"))
        await eventually(lambda: monitor.model.records == 2)
        monitor.model.receive_time(time.time_ns() + 10**10)
        await eventually(lambda: "[2Jev il: the feed is silent" in caplog.text)
        shown = picture(monitor.model, time.time_ns())

    assert len(stream.getvalue().splitlines()) == 2
    for said in (*stream.getvalue().splitlines(), *shown.splitlines(), *caplog.messages):
        assert said.isprintable()


async def test_bad_records_are_said_and_never_end_it(server, publisher, records, eventually, caplog):
    from redis.asyncio import Redis

    stream = io.StringIO()
    async with (
        monitoring(server.settings, as_json=True, stream=stream) as monitor,
        Redis(port=server.port) as client,
    ):
        await eventually(lambda: monitor.is_subscribed and publisher.is_connected)
        await client.publish("price", b"\xff not JSON")
        await client.publish("price", '{"market": "m"}')
        publisher.publish_price(records.live())
        await eventually(lambda: monitor.model.records == 1)
        await eventually(lambda: caplog.text.count("bad record") == 2)

    assert monitor.model.bad == 2
    assert len(stream.getvalue().splitlines()) == 1


async def test_it_subscribes_again_after_a_restart_and_counts_the_loss(
    server, publisher, records, eventually, caplog
):
    async with monitoring(server.settings, stream=io.StringIO()) as monitor:
        await eventually(lambda: monitor.is_subscribed and publisher.is_connected)
        publisher.publish_price(records.live(1.0))
        await eventually(lambda: monitor.model.records == 1)

        server.kill()
        await eventually(lambda: not monitor.is_subscribed)
        await eventually(lambda: f"127.0.0.1:{server.port}" in caplog.text)
        server.start()
        await eventually(lambda: monitor.is_subscribed and publisher.is_connected)
        await eventually(lambda: not publisher.waiting)
        publisher.publish_price(records.live(2.0))
        await eventually(lambda: monitor.model.markets[publisher.market].bid == 2.0)

    assert monitor.subscriptions == 2
    view = monitor.model.markets[publisher.market]
    assert view.runs == 1
    assert view.lost <= 1, "what was published again before the monitor was back"


async def test_a_frozen_server_is_given_up_and_found_again(server, eventually, monkeypatch):
    monkeypatch.setattr("dquant.pipeline.subscription.PING_AFTER_S", 0.3)
    monkeypatch.setattr("dquant.pipeline.subscription.DEAD_AFTER_S", 0.9)
    async with monitoring(server.settings) as monitor:
        await eventually(lambda: monitor.is_subscribed)
        await asyncio.sleep(1.2)
        assert monitor.subscriptions == 1, "a quiet channel with a server that answers PING is kept"
        server.freeze()
        await eventually(lambda: not monitor.is_subscribed)
        server.thaw()
        await eventually(lambda: monitor.is_subscribed)


async def test_silence_is_said_within_three_seconds(server, publisher, records, eventually, caplog):
    async with monitoring(server.settings, as_json=True) as monitor:
        await eventually(lambda: monitor.is_subscribed and publisher.is_connected)
        publisher.publish_health(records.health())
        await eventually(lambda: monitor.model.records == 1)
        last = time.monotonic()
        await eventually(lambda: f"{publisher.market}: the feed is silent" in caplog.text)
        assert time.monotonic() - last < 3.2

        publisher.publish_health(records.health())
        await eventually(lambda: "the feed is back" in caplog.text)


async def test_the_table_shows_live_numbers_stale_reasons_and_simulated(
    server, publisher, records, eventually
):
    screen = Terminal()
    async with monitoring(server.settings, stream=screen) as monitor:
        await eventually(lambda: monitor.is_subscribed and publisher.is_connected)
        publisher.publish_price(records.live(84093.4))
        await eventually(lambda: "84093.4" in screen.getvalue())
        assert "SIMULATED" in screen.getvalue()
        drawn = len(screen.getvalue())
        publisher.publish_price(records.stale("crossed"))
        await eventually(lambda: "crossed" in screen.getvalue()[drawn:])


def picture(model, now, width=80):
    from rich.console import Console

    from dquant.pipeline.monitor_view import draw

    console = Console(file=io.StringIO(), width=width)
    console.print(draw(model, "listening", ["a notice"], now))
    return console.file.getvalue()


def test_a_picture_has_one_row_a_market_and_no_number_of_a_silent_one(records):
    import msgspec

    now = 1_795_334_400_000_000_000
    model = MonitorModel(now)
    for market in ("a", "b"):
        record = msgspec.structs.replace(records.live(84093.4, market=market), seq=1, ts_pub=now)
        model.receive("price", msgspec.json.encode(record), now)
    record = msgspec.structs.replace(records.live(50000.5, market="a"), seq=4, ts_pub=now + 1)
    model.receive("price", msgspec.json.encode(record), now + 2_900_000_000)
    model.receive_time(now + 3_000_000_000)
    shown = picture(model, now + 3_000_000_000)

    rows = {line.split()[0]: line for line in shown.splitlines() if re.match(r"\s+[ab] ", line)}
    assert "50000.5" in rows["a"]
    assert rows["a"].split()[4] == "1", "one gap"
    assert "84093" not in rows["b"]
    assert "SILENT for 3 s" in rows["b"]
    assert "a notice" in shown


async def test_several_monitors_see_several_publishers(server, records, eventually):
    names = ["one", "two"]
    publishers = [Publisher(server.settings, "dev", name) for name in names]
    for publisher in publishers:
        publisher.start()
    async with monitoring(server.settings) as first, monitoring(server.settings, "price:two") as second:
        await eventually(lambda: first.is_subscribed and second.is_subscribed)
        await eventually(lambda: all(publisher.is_connected for publisher in publishers))
        for _ in range(10):
            for publisher in publishers:
                publisher.publish_price(records.live(market=publisher.market))
            await asyncio.sleep(0)
        await eventually(lambda: first.model.records == 20 and second.model.records == 10)
        for publisher in publishers:
            await publisher.close()

    assert sorted(first.model.markets) == names
    assert sorted(second.model.markets) == ["two"]
    assert all(view.lost == 0 for view in first.model.markets.values())


async def test_a_cluster_address_of_nothing_is_retried_without_noise(unused_port, caplog):
    settings = RedisSettings.from_url(f"redis+cluster://127.0.0.1:{unused_port}", password="hunter2")
    await MonitorSubscriber([], settings).run(duration=0.5, stream=io.StringIO())

    assert caplog.text.count("trying again") == 1
    assert "hunter2" not in caplog.text


PROGRAM = """
import sys
from dquant.pipeline.monitor_subscriber import run_monitor
from dquant.pipeline.redis_link import RedisSettings
sys.exit(run_monitor(["price"], RedisSettings(port=int(sys.argv[1])), as_json=True))
"""


@pytest.fixture
def program(server):
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(server.port)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    yield process
    process.kill()
    process.communicate()


async def publish_until(publisher, records, condition):
    async with asyncio.timeout(10):
        while not condition():
            publisher.publish_price(records.live())
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_the_program_cleanly(program, publisher, records, number):
    os.set_blocking(program.stdout.fileno(), False)
    await publish_until(publisher, records, program.stdout.readline)
    program.send_signal(number)
    await publish_until(publisher, records, lambda: program.poll() is not None)

    assert program.returncode == 0
    assert program.stderr.read() == b""


async def test_a_reader_that_has_seen_enough_ends_the_program_without_a_traceback(
    program, publisher, records
):
    os.set_blocking(program.stdout.fileno(), False)
    await publish_until(publisher, records, program.stdout.readline)
    program.stdout.close()
    await publish_until(publisher, records, lambda: program.poll() is not None)
    program.stdout = None

    assert program.returncode == 0
    assert program.stderr.read() == b""


async def test_a_reader_that_stops_reading_holds_up_no_signal(program, publisher, records, eventually):
    os.set_blocking(program.stdout.fileno(), False)
    await publish_until(publisher, records, program.stdout.readline)
    for _ in range(2000):  # several times what a pipe holds
        publisher.publish_price(records.live())
        await asyncio.sleep(0)
    await eventually(lambda: not publisher.waiting)
    program.terminate()
    await asyncio.to_thread(program.wait, 10)

    assert program.returncode == 0
    assert b"lines dropped" in program.stderr.read()


async def test_a_reader_that_leaves_in_silence_ends_the_program(program, publisher, records):
    os.set_blocking(program.stdout.fileno(), False)
    await publish_until(publisher, records, program.stdout.readline)
    program.stdout.close()
    await asyncio.to_thread(program.wait, 10)
    program.stdout = None

    assert program.returncode == 0


def as_module(port, environment):
    variables = os.environ | {"DQUANTENV": environment, "DQUANT_REDIS_PORT": str(port)}
    command = [
        sys.executable,
        "-m",
        "dquant.pipeline.monitor_subscriber",
        "price",
        "--json",
        "--duration",
        "0.2",
    ]
    return subprocess.run(command, env=variables, capture_output=True, check=False, timeout=30)


def test_as_a_module_in_dev_it_starts_the_server_it_listens_to(unused_port):
    done = as_module(unused_port, "dev")

    assert (done.returncode, done.stdout) == (0, b"")


def test_as_a_module_in_pro_without_a_server_it_is_one_error(unused_port):
    done = as_module(unused_port, "pro")

    assert (done.returncode, done.stdout) == (1, b"")
    assert f"127.0.0.1:{unused_port}" in done.stderr.decode()
    assert len(done.stderr.splitlines()) == 1


async def test_as_a_module_on_a_terminal_no_warning_goes_over_the_picture(server, eventually):
    """The picture shows it, after the time; whatever else is written lands in the middle of it."""
    from redis.asyncio import Redis

    screen, terminal = os.openpty()
    variables = os.environ | {"DQUANTENV": "pro", "DQUANT_REDIS_PORT": str(server.port), "TERM": "xterm"}
    process = subprocess.Popen(  # noqa: ASYNC220 - it waits for nothing
        [sys.executable, "-m", "dquant.pipeline.monitor_subscriber", "price"],
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=terminal,
        stderr=terminal,
    )
    shown = bytearray()

    def look():
        with contextlib.suppress(BlockingIOError):
            shown.extend(os.read(screen, 65536))
        return b"bad record" in shown

    try:
        os.set_blocking(screen, False)
        async with Redis(port=server.port) as client, asyncio.timeout(30):
            while not look():
                await client.publish("price", "{")
                await asyncio.sleep(0.05)
        process.terminate()
        await eventually(lambda: (look(), process.poll())[1] is not None)
        look()
        assert process.returncode == 0
        assert re.findall(rb"(?<!\d\d:\d\d:\d\d )bad record", shown) == []
    finally:
        process.kill()
        process.wait()
        os.close(screen)
        os.close(terminal)


async def test_as_a_module_it_dates_its_warnings_in_utc(server):
    """As every log of the product does, wherever the machine stands."""
    from redis.asyncio import Redis

    variables = {"DQUANTENV": "pro", "DQUANT_REDIS_PORT": str(server.port), "TZ": "EAST-9"}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "dquant.pipeline.monitor_subscriber", "price", "--json"),
        env=os.environ | variables,
        stderr=subprocess.PIPE,
    )
    try:
        said = asyncio.create_task(process.stderr.readline())
        async with Redis(port=server.port) as client, asyncio.timeout(30):
            while not said.done():
                await client.publish("price", "{")
                await asyncio.wait({said}, timeout=0.05)
    finally:
        process.kill()
        await process.wait()
    dated = datetime.strptime(said.result()[:19].decode(), "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    assert abs(datetime.now(UTC) - dated) < timedelta(hours=1)
