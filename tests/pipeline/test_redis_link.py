"""Addresses read from the configuration, logins, and errors that name the remedy and no secret."""

import asyncio
import subprocess
import time

import pytest

from dquant.errors import ConfigError, PipelineError
from dquant.pipeline.redis_link import RedisSettings, check_login, close_client, create_client


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://h", "redis://h:6379/0"),
        ("redis://u:p%40@h:1/2", "redis://h:1/2"),
        ("redis://[::1]:7", "redis://[::1]:7/0"),
        ("rediss://:p@h:1?ca_file=/ca.pem", "rediss://h:1/0"),
        ("unix:///run/redis.sock", "unix:///run/redis.sock"),
        ("redis+sentinel://u:p@a:1,b/main/3", "redis+sentinel://a:1,b:26379/main"),
        ("rediss+cluster://a:1,b:2", "rediss+cluster://a:1,b:2"),
    ],
)
def test_a_url_is_read_and_shown_without_its_credentials(url, address):
    assert RedisSettings.from_url(url).address == address


def test_a_url_gives_credentials_database_and_authority():
    settings = RedisSettings.from_url("rediss://u:p%40ss@h:1/2?ca_file=/ca.pem", password="unused")

    assert (settings.user, settings.password, settings.db) == ("u", "p@ss", 2)
    assert settings.tls
    assert settings.tls_ca_file == "/ca.pem"


def test_the_password_of_the_configuration_completes_a_url_without_one():
    assert RedisSettings.from_url("redis://bob@h", password="secret").password == "secret"


@pytest.mark.parametrize(
    "url",
    [
        "http://hunter2@h",
        "hunter2",
        "redis://u:hunter2@h:x",
        "redis://u:hunter2@h:0",
        "redis://u:hunter2@a:1,b:2",
        "redis+sentinel://u:hunter2@a:1",
        "redis+cluster://u:hunter2@a:1/3",
        "redis://u:hunter2@h/x",
        "redis://h?password=hunter2",
        "unix://u:hunter2@relative",
    ],
)
def test_a_bad_url_is_a_usage_error_that_does_not_repeat_it(url):
    with pytest.raises(ConfigError) as caught:
        RedisSettings.from_url(url)

    assert "redis_url" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_the_configuration_is_read_and_a_url_goes_before_host_and_port():
    class Config:
        redis_host, redis_port, redis_db, redis_user, redis_password = "h", 7, 2, "", "secret"
        redis_url = ""

        def source_of(self, name):
            return "dev.cfg"

    plain = RedisSettings.from_config(Config())
    assert (plain.address, plain.user, plain.password) == ("redis://h:7/2", None, "secret")
    Config.redis_url = "rediss://other"
    by_url = RedisSettings.from_config(Config())
    assert (by_url.address, by_url.password) == ("rediss://other:6379/2", "secret")


def test_no_repr_shows_a_password():
    settings = RedisSettings(user="u", password="hunter2", sentinel_password="hunter2")

    assert "hunter2" not in repr(settings)


async def test_a_dead_port_fails_at_once_and_names_address_and_key(unused_port):
    started = time.monotonic()
    with pytest.raises(PipelineError) as caught:
        await check_login(RedisSettings(port=unused_port))

    assert time.monotonic() - started < 1.0, "redis-py's own retries would take 4 s"
    assert f"127.0.0.1:{unused_port}" in str(caught.value)
    assert "redis_host/redis_port" in str(caught.value)


async def test_what_refuses_is_said_shortly_with_the_remedy(make_server, unused_port):
    server, old = make_server("requirepass right"), make_server('rename-command HELLO ""')
    for settings, words in (
        (old.settings, f"Redis at redis://127.0.0.1:{old.port}/0 is older than version 6: set "),
        (
            RedisSettings(port=unused_port),
            f"redis://127.0.0.1:{unused_port}/0 (Connection refused): start one",
        ),
        (RedisSettings(host="no.such.host.invalid"), "redis://no.such.host.invalid:6379/0 ("),
        (server.settings, f"127.0.0.1:{server.port}/0 wants a login: set redis_user and redis_password"),
    ):
        with pytest.raises(PipelineError) as caught:
            await check_login(settings)
        assert words in str(caught.value)
        assert "Error " not in str(caught.value)


def test_a_ca_file_that_cannot_be_read_is_a_usage_error():
    class Config:
        redis_url = "rediss://h:1?ca_file=/nonexistent/ca.pem"
        redis_user = redis_password = ""
        redis_db = 0

        def source_of(self, name):
            return "DQUANT_REDIS_URL"

    with pytest.raises(
        ConfigError, match=r"^DQUANT_REDIS_URL .* ca_file '/nonexistent/ca.pem' cannot be read$"
    ):
        RedisSettings.from_config(Config())


async def test_an_acl_user_logs_in_and_a_wrong_password_is_refused_in_one_line(make_server):
    server = make_server("user default off", "user bob on >hunter2 ~* &* +@all")
    good = RedisSettings(port=server.port, user="bob", password="hunter2")
    await check_login(good)

    for bad in (
        RedisSettings(port=server.port),
        RedisSettings(port=server.port, user="bob", password="wr0ng"),
    ):
        with pytest.raises(PipelineError, match="redis_user and redis_password") as caught:
            await check_login(bad)
        assert "wr0ng" not in str(caught.value)
        assert caught.value.__cause__ is None


async def test_a_unix_socket_works(make_server, tmp_path):
    make_server(f"unixsocket {tmp_path}/s")

    await check_login(RedisSettings.from_url(f"unix://{tmp_path}/s"))


async def test_a_sentinel_leads_to_its_master(make_server):
    master = make_server()
    watch = f"sentinel monitor main 127.0.0.1 {master.port} 1"
    sentinel = make_server(watch, arguments=("--sentinel",))
    settings = RedisSettings.from_url(f"redis+sentinel://127.0.0.1:{sentinel.port}/main")

    client = create_client(settings)
    try:
        info = await client.info("server")
    finally:
        await close_client(client)
    assert info["tcp_port"] == master.port

    unknown = RedisSettings.from_url(f"redis+sentinel://127.0.0.1:{sentinel.port}/other")
    with pytest.raises(PipelineError, match="redis_url"):
        await check_login(unknown)


@pytest.fixture
def authority(tmp_path):
    """A self-signed certificate for 127.0.0.1, its own authority."""
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
        capture_output=True, check=False,
    )  # fmt: skip
    if made.returncode:
        pytest.skip(f"openssl made no certificate: {made.stderr[-200:]!r}")
    return certificate, key


async def test_tls_is_spoken_and_an_unknown_authority_refused(authority, tls_door):
    certificate, _ = authority
    port = await tls_door(*authority)

    await check_login(RedisSettings.from_url(f"rediss://127.0.0.1:{port}?ca_file={certificate}"))
    with pytest.raises(PipelineError, match=r"TLS .*not trusted.*ca_file"):
        await check_login(RedisSettings.from_url(f"rediss://127.0.0.1:{port}"))


@pytest.fixture
async def tls_door(server):
    """Terminate TLS in front of the Valkey server, whose wheel is built without it."""
    import ssl

    doors = []
    tasks = set()

    async def pass_on(reader, writer):
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def serve(reader, writer):
        tasks.add(asyncio.current_task())
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", server.port)
        await asyncio.gather(pass_on(reader, inner_writer), pass_on(inner_reader, writer))

    async def open_door(certificate, key):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        doors.append(await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context))
        return doors[-1].sockets[0].getsockname()[1]

    yield open_door
    for door in doors:
        door.close()
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
