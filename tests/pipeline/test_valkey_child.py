"""The dev server: started where nothing answers, gone with its owner, replaced by the next process."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from dquant.errors import PipelineError
from dquant.pipeline.redis_link import RedisSettings
from dquant.pipeline.valkey_child import Keeper, ValkeyChild, ensure_server, probe, server_config

DEADLINE_S = 10.0

# Keeps a server for as long as it lives, and says the number of its own, 0 if none, when that changes.
OWNER = textwrap.dedent(
    """
    import sys, time
    from dquant.pipeline.redis_link import RedisSettings
    from dquant.pipeline.valkey_child import Keeper
    keeper = Keeper(RedisSettings(port=int(sys.argv[1])), "dev")
    keeper.start()
    said = None
    while True:
        number = keeper.child.pid if keeper.child else 0
        if number != said:
            print(number, flush=True)
            said = number
        time.sleep(0.02)
    """
)


def wait_for(condition, timeout_s=DEADLINE_S):
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, "too late"
        time.sleep(0.005)
    return value


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] != "Z"


@pytest.fixture
def owners():
    """Start processes that keep a server; all are killed at the end, and their servers with them."""
    processes = []

    def start(port):
        process = subprocess.Popen(
            [sys.executable, "-c", OWNER, str(port)], stdout=subprocess.PIPE, text=True
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture
def child_settings(unused_port):
    return RedisSettings(port=unused_port)


def test_where_nothing_answers_a_server_is_started_and_stopped_again(child_settings):
    child = ensure_server(child_settings, "dev")
    try:
        assert child is not None
        assert probe("127.0.0.1", child_settings.port)
        assert ensure_server(child_settings, "dev") is None, "what answers is used, not replaced"
    finally:
        child.stop()
    assert not probe("127.0.0.1", child_settings.port)
    assert not child.is_alive


def test_the_server_is_at_work_within_a_fraction_of_a_second_and_leaves_no_directory(
    child_settings, tmp_path, monkeypatch
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    started = time.monotonic()
    child = ValkeyChild.start(child_settings)
    took_s = time.monotonic() - started
    left = list(tmp_path.iterdir())
    child.stop()

    assert took_s < 1.0, "measured 50 ms on an idle machine"
    assert left == [], "gone while it runs, so that no way of dying leaves it"


def test_in_pro_nothing_there_is_one_clear_error(child_settings):
    with pytest.raises(PipelineError) as caught:
        ensure_server(child_settings, "pro")

    assert f"127.0.0.1:{child_settings.port}" in str(caught.value)
    assert "redis_host/redis_port" in str(caught.value)
    assert caught.value.exit_code == 1


def test_in_dev_nothing_is_started_for_another_machine_or_a_cluster(unused_port):
    for settings in (
        RedisSettings(port=unused_port, host="127.0.0.2"),
        RedisSettings.from_url(f"redis+cluster://127.0.0.1:{unused_port}"),
    ):
        with pytest.raises(PipelineError):
            ensure_server(settings, "dev")


def test_a_port_held_by_something_else_is_said():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
        with pytest.raises(PipelineError, match="does not answer"):
            probe("127.0.0.1", port, timeout_s=0.1)

        def answer():
            for _ in range(2):  # the first is the connection of the probe above
                with contextlib.suppress(OSError):
                    connection, _ = sock.accept()
                    connection.sendall(b"HTTP/1.1 400 no\r\n\r\n")
                    connection.close()

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(PipelineError, match="is no Redis"):
            probe("127.0.0.1", port, timeout_s=2.0)
        thread.join()


def test_a_port_that_closes_at_once_may_want_tls():
    """A Redis with TLS answers a word that is not TLS so; no server of our own could be started there."""
    with socket.create_server(("127.0.0.1", 0)) as sock:

        def close():
            for _ in range(2):
                sock.accept()[0].close()

        thread = threading.Thread(target=close)
        thread.start()
        with pytest.raises(PipelineError, match=r"wants TLS \(set redis_url = rediss://"):
            probe("127.0.0.1", sock.getsockname()[1])
        thread.join()


@pytest.mark.parametrize("user", [None, "bob"])
def test_credentials_reach_the_server_and_neither_arguments_nor_environment(unused_port, user, monkeypatch):
    monkeypatch.setenv("DQUANT_REDIS_PASSWORD", 'hunter2 "\n#')
    settings = RedisSettings(port=unused_port, user=user, password='hunter2 "\n#')
    child = ensure_server(settings, "dev")
    try:
        for name in ("cmdline", "environ"):
            with open(f"/proc/{child.pid}/{name}", "rb") as file:
                assert b"hunter2" not in file.read()
        with pytest.raises(PipelineError, match="redis_password"):
            ensure_server(RedisSettings(port=unused_port), "dev")
    finally:
        child.stop()


def test_the_configuration_is_bounded_and_private(child_settings):
    config = server_config(child_settings)

    assert "bind 127.0.0.1\n" in config
    assert 'save ""\n' in config
    assert "maxmemory " in config


def test_the_server_dies_with_its_owner_even_after_kill_9(owners, unused_port):
    owner = owners(unused_port)
    pid = int(owner.stdout.readline())
    assert is_running(pid)
    assert os.getpgid(pid) != os.getpgid(owner.pid), "Ctrl-C at the terminal must not reach it"

    owner.send_signal(signal.SIGKILL)
    owner.wait()
    wait_for(lambda: not is_running(pid))
    assert not probe("127.0.0.1", unused_port)


def test_a_frozen_server_dies_with_its_owner_as_well(owners, unused_port):
    owner = owners(unused_port)
    pid = int(owner.stdout.readline())
    os.kill(pid, signal.SIGSTOP)

    owner.kill()
    owner.wait()
    wait_for(lambda: not is_running(pid))


def test_two_processes_that_race_for_one_port_end_up_with_one_server(owners, unused_port):
    both = [owners(unused_port) for _ in range(3)]
    pids = [int(process.stdout.readline()) for process in both]

    assert sum(pid > 0 for pid in pids) == 1
    assert probe("127.0.0.1", unused_port)


def test_the_loser_of_a_race_leaves_the_port_to_the_winner(server):
    """What answers at the port is asked for its process number: it is not the child just started."""
    assert ValkeyChild.start(server.settings) is None
    assert probe("127.0.0.1", server.port)


def test_after_the_owner_is_killed_another_process_starts_a_server_itself(owners, unused_port):
    first = owners(unused_port)
    first_pid = int(first.stdout.readline())
    second = owners(unused_port)
    assert int(second.stdout.readline()) == 0

    first.kill()
    first.wait()
    second_pid = int(second.stdout.readline())
    assert second_pid not in (0, first_pid)
    wait_for(lambda: probe("127.0.0.1", unused_port))


def test_the_server_outlives_the_thread_that_asked_the_keeper(child_settings):
    """The kernel's death signal follows the forking thread: the keeper's, not the caller's."""
    keeper = Keeper(child_settings, "dev")
    caller = threading.Thread(target=keeper.start)
    caller.start()
    caller.join()
    try:
        assert keeper.child.is_alive
        assert probe("127.0.0.1", child_settings.port)
    finally:
        keeper.stop()
    assert not probe("127.0.0.1", child_settings.port)


def test_a_server_started_in_a_short_thread_dies_with_that_thread(child_settings):
    """Why the keeper exists."""
    children = []
    thread = threading.Thread(target=lambda: children.append(ValkeyChild.start(child_settings)))
    thread.start()
    thread.join()

    wait_for(lambda: not children[0].is_alive)


def test_a_keeper_replaces_its_own_server_when_that_is_killed(child_settings):
    keeper = Keeper(child_settings, "dev")
    keeper.start()
    try:
        first = keeper.child.pid
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: keeper.child.pid != first)
        wait_for(lambda: probe("127.0.0.1", child_settings.port))
    finally:
        keeper.stop()


def test_a_keeper_in_pro_reports_the_error_to_the_caller_and_leaves_no_thread(child_settings):
    keeper = Keeper(child_settings, "pro")
    with pytest.raises(PipelineError):
        keeper.start()

    assert "redis-keeper" not in [thread.name for thread in threading.enumerate()]
