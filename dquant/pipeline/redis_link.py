"""Where Redis is, and redis-py asyncio clients for it: one server, TLS, Sentinel or Cluster.

Settings come in (from the configuration, or one ``redis_url``); clients that fail fast come
out, and errors in one sentence that names the address and the remedy, never the password.
Nothing here retries: the publisher and the monitor own their back-off.

Forms of ``redis_url`` (``s`` after ``redis`` switches TLS on; with TLS, ``?ca_file=PATH`` at the end names
the certificate authority, the system's otherwise)::

    redis://[user[:password]@]host[:port][/db]
    rediss://[user[:password]@]host[:port][/db][?ca_file=PATH]
    unix://[user[:password]@]/path/of/socket
    redis+sentinel://[user[:password]@]host:port,host:port/service[/db]
    redis+cluster://[user[:password]@]host:port,host:port

Units: seconds.
"""

import asyncio
import dataclasses
import os
import re
import ssl
from collections.abc import Collection
from typing import Any
from urllib.parse import unquote

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import MasterNotFoundError, Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError, RedisClusterException, RedisError
from redis.maint_notifications import MaintNotificationsConfig

from dquant.errors import ConfigError, PipelineError

Client = Redis | RedisCluster
Address = tuple[str, int]

# What a client call may raise when the server is gone, refuses us or speaks nonsense.
LINK_ERRORS = (RedisError, RedisClusterException, OSError, TimeoutError)

_SCHEMES = {
    "redis": ("single", False),
    "rediss": ("single", True),
    "redis+sentinel": ("sentinel", False),
    "rediss+sentinel": ("sentinel", True),
    "redis+cluster": ("cluster", False),
    "rediss+cluster": ("cluster", True),
    "unix": ("unix", False),
}
_CANCEL_STEP_S = 0.1
_DEFAULT_PORTS = {"single": 6379, "sentinel": 26379, "cluster": 6379}


@dataclasses.dataclass(frozen=True, slots=True)
class RedisSettings:
    """One Redis, however it is reached; ``nodes`` are the sentinels or the first nodes of a cluster.

    ``key`` names the configuration key to change when the address is wrong.
    """

    host: str = "127.0.0.1"
    port: int = 6379
    db: int = 0
    user: str | None = None
    password: str | None = dataclasses.field(default=None, repr=False)
    tls: bool = False
    tls_ca_file: str | None = None
    unix_path: str | None = None
    nodes: tuple[Address, ...] = ()
    sentinel_master: str | None = None
    sentinel_user: str | None = None
    sentinel_password: str | None = dataclasses.field(default=None, repr=False)
    cluster: bool = False
    connect_timeout_s: float = 1.0
    reply_timeout_s: float = 2.0
    key: str = "redis_host/redis_port"

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        if self.cluster and self.sentinel_master:
            raise ConfigError("Redis Cluster and Sentinel cannot both be asked for", self.key)
        if self.cluster and self.db:
            raise ConfigError("Redis Cluster has database 0 only", self.key)
        if self.sentinel_master and not self.nodes:
            raise ConfigError("Sentinel needs the addresses of the sentinels", self.key)
        for host, port in (*self.nodes, (self.host, self.port)):
            if not host or not 0 < port < 65536:
                raise ConfigError(f"no address: {host!r} port {port} (allowed: 1 to 65535)", self.key)

    @classmethod
    def from_url(cls, url: str, **more: Any) -> "RedisSettings":
        """Read ``redis_url``; keywords (``password``, ``tls_ca_file`` …) fill in what it does not say.

        Raises:
            ConfigError: The URL has none of the forms above; it is not repeated, as it may hold a password.

        """
        key = more.pop("key", "redis_url")
        scheme, separator, rest = url.partition("://")
        if not separator or scheme not in _SCHEMES:
            raise ConfigError(f"unknown kind of address; allowed: {', '.join(_SCHEMES)}", key)
        kind, tls = _SCHEMES[scheme]
        credentials, _, place = rest.rpartition("@")
        place, _, query = place.partition("?")
        hosts, *path = place.split("/")
        given: dict[str, Any] = {"tls": tls, "key": key}
        if query:
            name, _, value = query.partition("=")
            if name != "ca_file" or not tls:
                raise ConfigError("after ? only ca_file=PATH is allowed, and with TLS", key)
            given["tls_ca_file"] = unquote(value)
        if credentials:
            user, _, password = credentials.partition(":")
            given |= {"user": unquote(user) or None, "password": unquote(password) or None}
        if kind == "unix":
            if not place.startswith("/"):
                raise ConfigError("not of the form unix:///path/of/socket", key)
            return cls(**{**more, **given, "unix_path": place})
        try:
            nodes = tuple(_address(text, _DEFAULT_PORTS[kind]) for text in hosts.split(","))
            if kind == "sentinel":
                given |= {"nodes": nodes, "sentinel_master": path.pop(0)}
            elif kind == "cluster":
                given |= {"nodes": nodes, "cluster": True}
            elif len(nodes) > 1:
                raise ConfigError("several hosts: use redis+sentinel:// or redis+cluster://", key)
            given |= {"host": nodes[0][0], "port": nodes[0][1]}
            if path and path[0]:
                given["db"] = int(path[0])
        except (ValueError, IndexError):
            raise ConfigError("not of the form scheme://[user:password@]host:port[/db]", key) from None
        return cls(**{**more, **{name: value for name, value in given.items() if value is not None}})

    @classmethod
    def from_config(cls, cfg: Any) -> "RedisSettings":
        """Read the keys of ``[redis]``; ``redis_url`` stands before host and port.

        Raises:
            ConfigError: The keys do not go together, or the URL has none of the forms above.

        """
        given = {"user": cfg.redis_user or None, "password": cfg.redis_password or None, "db": cfg.redis_db}
        if cfg.redis_url:
            key = f"{cfg.source_of('redis_url')} [redis_url]"
            settings = cls.from_url(cfg.redis_url, key=key, **given)
            if settings.tls_ca_file and not os.access(settings.tls_ca_file, os.R_OK):
                raise ConfigError(f"ca_file {settings.tls_ca_file!r} cannot be read", key)
            return settings
        key = f"{cfg.source_of('redis_host')} [redis_host/redis_port]"
        return cls(host=cfg.redis_host, port=cfg.redis_port, key=key, **given)

    @property
    def address(self) -> str:
        """The address as a person would write it, without credentials."""
        if self.unix_path:
            return f"unix://{self.unix_path}"
        scheme = "rediss" if self.tls else "redis"
        places = ",".join(_place(host, port) for host, port in self.nodes or ((self.host, self.port),))
        if self.sentinel_master:
            return f"{scheme}+sentinel://{places}/{self.sentinel_master}"
        return f"{scheme}+cluster://{places}" if self.cluster else f"{scheme}://{places}/{self.db}"

    @property
    def is_plain(self) -> bool:
        """One server without TLS: what a child of ours can stand in for."""
        return not (self.tls or self.cluster or self.sentinel_master or self.unix_path)


def _place(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _address(text: str, default_port: int) -> Address:
    """Read ``host``, ``host:port`` or ``[v6]:port``."""
    if text.startswith("["):
        host, _, port = text[1:].partition("]")
        port = port.removeprefix(":")
    else:
        host, _, port = text.partition(":")
    return host, int(port) if port else default_port


def create_client(settings: RedisSettings) -> Client:
    """Make a client that fails fast: one try, ``connect_timeout_s`` and ``reply_timeout_s``.

    Nothing connects before the first command. redis-py's defaults (ten tries with back-off) let a
    dead port take 4 s to fail, while our own loops back off anyway.
    """
    common: dict[str, Any] = {
        "username": settings.user,
        "password": settings.password,
        "socket_connect_timeout": settings.connect_timeout_s,
        "socket_timeout": settings.reply_timeout_s,
        "retry": Retry(NoBackoff(), 0),
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
    }
    if settings.tls:
        common |= {"ssl": True, "ssl_ca_certs": settings.tls_ca_file}
    if settings.cluster:
        nodes = settings.nodes or ((settings.host, settings.port),)
        return RedisCluster(startup_nodes=[ClusterNode(host, port) for host, port in nodes], **common)
    if settings.sentinel_master:
        own = {"username": settings.sentinel_user, "password": settings.sentinel_password}
        sentinel = Sentinel(list(settings.nodes), sentinel_kwargs=common | own)  # type: ignore[no-untyped-call]
        master: Redis = sentinel.master_for(settings.sentinel_master, db=settings.db, **common)
        return master
    if settings.unix_path:
        return Redis(unix_socket_path=settings.unix_path, db=settings.db, **common)
    return Redis(host=settings.host, port=settings.port, db=settings.db, **common)


def with_nodes(settings: RedisSettings, client: RedisCluster) -> RedisSettings:
    """Add the nodes that a connected client knows: the configured ones may be those that go next."""
    seen = sorted((node.host, int(node.port)) for node in client.get_nodes())
    return dataclasses.replace(settings, nodes=tuple(dict.fromkeys((*settings.nodes, *seen))))


async def close_client(client: Client) -> None:
    """Close a client, and the sentinels that it asked, whatever state they are in."""
    manager = (
        None
        if isinstance(client, RedisCluster)
        else getattr(client.connection_pool, "sentinel_manager", None)
    )
    for each in (client, *(manager.sentinels if manager is not None else ())):
        try:
            await each.aclose()
        except LINK_ERRORS:
            continue  # it was broken already: nothing is left to close


async def cancel_all(tasks: Collection["asyncio.Task[Any]"]) -> None:
    """Cancel tasks that use redis-py, until they have ended.

    More than once: redis-py, caught while it connects, loses a cancellation now and then.
    """
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=_CANCEL_STEP_S)


async def check_login(settings: RedisSettings) -> None:
    """Log in and PING once.

    Raises:
        PipelineError: Nothing there, or it refuses us; says which and the remedy.

    """
    client = create_client(settings)
    try:
        await client.ping()
    except LINK_ERRORS as exc:
        raise PipelineError(explain(exc, settings)) from None  # the chain may quote what we sent
    finally:
        await close_client(client)


def _words(exc: BaseException) -> str:
    """Return what an error says, without what redis-py and asyncio wrap around it."""
    cause = _cause(exc)
    for each in (exc, cause):
        if isinstance(each, ssl.SSLCertVerificationError):
            return f"certificate not trusted: {each.verify_message}"
        if isinstance(each, OSError) and not isinstance(each, (TimeoutError, ssl.SSLError)) and each.errno:
            return os.strerror(each.errno) if each.errno > 0 else str(each.strerror)  # below 0: no such host
    if isinstance(exc, TimeoutError) or isinstance(cause, TimeoutError):
        return "no answer in time"
    what = str(exc).strip().rstrip(".") or type(exc).__name__
    wrapped = re.match(r"Error (\d+) connecting to ", what)
    return os.strerror(int(wrapped[1])) if wrapped and "SSL" not in what else what


def _cause(exc: BaseException) -> BaseException | None:
    return exc.__cause__ or exc.__context__


def explain(exc: BaseException, settings: RedisSettings) -> str:
    """Say in one line what failed at which address, and what to do about it."""
    what = _words(exc)
    for secret in (settings.password, settings.sentinel_password):
        if secret:
            what = what.replace(secret, "***")
    where = settings.address
    if "NOAUTH" in what or what.startswith("HELLO must be called with the client already authenticated"):
        return f"Redis at {where} wants a login: set redis_user and redis_password"
    if what.lower().startswith("unknown command 'hello'"):
        return f"Redis at {where} is older than version 6: set {settings.key} to a newer one"
    if isinstance(exc, (AuthenticationError, NoPermissionError)):
        return f"Redis at {where} refuses us ({what}): set redis_user and redis_password"
    if isinstance(exc, ssl.SSLError) or isinstance(_cause(exc), ssl.SSLError) or "SSL" in what:
        return f"TLS with Redis at {where} fails ({what}): check its ca_file and that the port speaks TLS"
    if isinstance(exc, MasterNotFoundError):
        return f"no sentinel at {where} names a master that answers ({what}): check {settings.key}"
    return f"no Redis answers at {where} ({what}): start one there, or set {settings.key}"
