"""Every key is described, read from where it should be, and refused in one line that says what is allowed."""

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dquant import config
from dquant.config import CONFIG_DIR, KEYS, MyConfiguration
from dquant.errors import ConfigError

SECRETS = sorted(name for name, spec in KEYS.items() if spec.is_secret)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return a folder with two empty configurations."""
    for environment in config.ENVIRONMENTS:
        (tmp_path / f"{environment}.cfg").touch()
    return tmp_path


def refusal(directory: Path, text: str = "", variables: dict[str, str] | None = None) -> str:
    """Return the one line that refuses this file or these variables."""
    (directory / "dev.cfg").write_text(text, "utf-8")
    with pytest.raises(ConfigError) as caught:
        MyConfiguration("dev", variables or {}, directory)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert caught.value.exit_code == 2
    return message


# --- the keys -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KEYS)
def test_every_key_has_a_unit_a_help_and_a_default_that_is_allowed(name: str) -> None:
    spec = KEYS[name]
    assert spec.unit.strip()
    assert len(spec.help) > 5
    spec.parse(spec.default)
    assert re.fullmatch(r"[a-z][a-z0-9_]*", name)
    if spec.is_secret:
        assert spec.default == ""


@pytest.mark.parametrize("environment", config.ENVIRONMENTS)
def test_the_files_of_the_project_are_read(environment: str) -> None:
    cfg = MyConfiguration(environment, {})
    assert cfg.path == CONFIG_DIR / f"{environment}.cfg"
    for name in KEYS:
        getattr(cfg, name)
    assert cfg.is_simulated == (environment == "dev")


def test_dev_is_simulated_and_pro_is_live_with_bitmex_closed() -> None:
    dev, pro = MyConfiguration("dev", {}), MyConfiguration("pro", {})
    assert dev.markets == ["okex_future_btcusd_thisweek", "bitmex_future_btcusd"]
    assert pro.markets == ["okex_future_btcusd_thisweek", "okex_swap_btcusd"]
    assert (dev.strategy, pro.strategy) == ("diff", "diff")
    assert (dev.simulated_venues, pro.simulated_venues) == (True, False)
    assert (dev.okex_ws_url, dev.bitmex_closed_at) == ("", "")
    assert pro.okex_ws_url.startswith("wss://")
    assert pro.bitmex_closed_at == "2026-09-23T04:00:00Z"
    assert pro.bitmex_use_instead == "okex_swap_btcusd"


def test_the_environment_is_dev_unless_named(directory: Path) -> None:
    assert MyConfiguration(None, {}, directory).environment == "dev"
    assert MyConfiguration(None, {"DQUANTENV": ""}, directory).environment == "dev"
    assert MyConfiguration(None, {"DQUANTENV": "pro"}, directory).environment == "pro"


def test_an_unknown_environment_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ConfigError, match=r"^DQUANTENV: environment 'prod' is not known; allowed: dev, pro$"):
        MyConfiguration(None, {"DQUANTENV": "prod"})


def test_a_name_that_is_no_key_is_no_attribute(directory: Path) -> None:
    cfg = MyConfiguration("dev", {}, directory)
    with pytest.raises(AttributeError):
        cfg.redis_prot  # noqa: B018
    assert not hasattr(config, "nonsense")


def test_cfg_is_the_configuration_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "_loaded", None)
    monkeypatch.setenv("DQUANTENV", "pro")
    assert config.cfg.environment == "pro"
    assert config.cfg is config.cfg


# --- where a value comes from -------------------------------------------------------------------------


def test_a_variable_stands_before_the_secrets_file_and_that_before_the_file(directory: Path) -> None:
    (directory / "dev.cfg").write_text("[redis]\nredis_port = 1001\nredis_host = a\nredis_db = 1\n")
    secrets = directory / "secrets"
    secrets.write_text("[redis]\nredis_port = 1002\nredis_host = b\n")
    secrets.chmod(0o600)
    variables = {"DQUANT_REDIS_PORT": " 1003 ", "DQUANT_SECRETS_FILE": str(secrets), "PATH": "x"}
    cfg = MyConfiguration("dev", variables, directory)
    assert (cfg.redis_port, cfg.redis_host, cfg.redis_db, cfg.redis_stream_length) == (1003, "b", 1, 10000)
    assert [cfg.source_of(key) for key in ("redis_port", "redis_host", "redis_db", "redis_user")] == [
        "DQUANT_REDIS_PORT",
        str(secrets),
        str(directory / "dev.cfg"),
        "default",
    ]


def test_values_have_the_type_of_their_key(directory: Path) -> None:
    (directory / "dev.cfg").write_text(
        "[main]\nmarkets = a, b,,c\n[redis]\nredis_streams = Yes\n[connection]\nrest_timeout_s = 2.5\n"
        "[bitmex]\nbitmex_closed_at =\n"
    )
    cfg = MyConfiguration("dev", {}, directory)
    assert cfg.markets == ["a", "b", "c"]
    assert cfg.redis_streams is True
    assert cfg.rest_timeout_s == 2.5
    assert cfg.bitmex_closed_at == ""


@pytest.mark.parametrize(
    "url",
    [
        "redis://host:6379/0",
        "rediss://user:pass@host",
        "unix:///run/redis.sock",
        "redis+sentinel://a:1,b:2/master/0",
        "rediss+sentinel://a:1/master",
        "redis+cluster://a:1,b:2",
        "rediss+cluster://u:p@a:1",
    ],
)
def test_every_kind_of_redis_address_is_taken(directory: Path, url: str) -> None:
    assert MyConfiguration("dev", {"DQUANT_REDIS_URL": url}, directory).redis_url == url


# --- what is refused ----------------------------------------------------------------------------------


def test_an_unknown_key_is_named_with_its_file_and_its_neighbour(directory: Path) -> None:
    message = refusal(directory, "[redis]\nredis_prot = 6379\n")
    assert (
        message == f"{directory / 'dev.cfg'}: [redis] redis_prot is not a known key; did you mean redis_port?"
    )


def test_an_unknown_key_without_a_neighbour_leads_to_the_page(directory: Path) -> None:
    assert "docs/configuration.md" in refusal(directory, "[redis]\nxyzzy = 1\n")
    assert (CONFIG_DIR.parent / "docs" / "configuration.md").is_file()


def test_an_unknown_variable_is_named(directory: Path) -> None:
    message = refusal(directory, variables={"DQUANT_REDIS_PROT": "6379"})
    assert message == "DQUANT_REDIS_PROT: redis_prot is not a known key; did you mean redis_port?"


@pytest.mark.parametrize(
    "text", ["[redsi]\n", "[redsi]\nredis_port = 1\n", "[DEFAULT]\nredis_port = 1\n", "[DEFAULT]\nx=1\n"]
)
def test_an_unknown_section_is_named_with_those_that_there_are(directory: Path, text: str) -> None:
    message = refusal(directory, text)
    assert str(directory / "dev.cfg") in message
    assert "is not a known section" in message
    assert "[redis]" in message


def test_a_key_in_another_section_is_sent_to_its_own(directory: Path) -> None:
    assert refusal(directory, "[main]\nredis_port = 1\n").endswith(
        "redis_port belongs to [redis], not [main]"
    )


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("redis_port", "none", "a whole number from 1 to 65535"),
        ("redis_port", "0", "a whole number from 1 to 65535"),
        ("redis_port", "", "a whole number from 1 to 65535"),
        ("redis_port", "6379.0", "a whole number from 1 to 65535"),
        ("rest_timeout_s", "nan", "a number from 0.1 to 120"),
        ("rest_timeout_s", "inf", "a number from 0.1 to 120"),
        ("rest_timeout_s", "10s", "a number from 0.1 to 120"),
        ("redis_streams", "maybe", "yes or no"),
        ("redis_host", "", "a name or an address, without port and scheme"),
        ("redis_host", "redis.example:6380", "a name or an address, without port and scheme"),
        ("redis_host", "redis://redis.example", "a name or an address, without port and scheme"),
        ("log_dir", "", "a path, not empty"),  # the logs would lie about in the checkout
        ("log_level", "loud", "one of debug, info, warning, error"),
        ("transport", "carrier pigeon", "one of auto, picows, websockets"),
        ("okex_ws_url", "www.okx.com", "empty, or an address starting with ws:// or wss://"),
        ("okex_ws_url", "https://www.okx.com", "empty, or an address starting with ws:// or wss://"),
        ("okex_rest_url", "https:///api", "empty, or an address starting with http:// or https://"),
        ("redis_url", "redisx://a", "empty, or an address starting with redis://"),
        ("bitmex_closed_at", "tomorrow", "a UTC time such as 2026-09-23T04:00:00Z"),
        ("bitmex_closed_at", "2026-99-23T04:00:00Z", "a UTC time such as 2026-09-23T04:00:00Z"),
        ("bitmex_closed_at", "2026-09-23T04:00:00+0000", "a UTC time such as 2026-09-23T04:00:00Z"),
    ],
)
def test_a_bad_value_is_named_with_its_key_its_source_and_what_is_allowed(
    directory: Path, name: str, value: str, allowed: str
) -> None:
    variable = f"DQUANT_{name.upper()}"
    by_file = refusal(directory, f"[{KEYS[name].section}]\n{name} = {value}\n")
    by_variable = refusal(directory, variables={variable: value})
    assert by_file.startswith(f"{directory / 'dev.cfg'}: {name}: ")
    assert by_variable.startswith(f"{variable}: {name}: ")
    for message in (by_file, by_variable):
        assert f"{value!r} is not allowed" in message
        assert allowed in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("redis_port = 1\n", "line 1 stands before the first [section]"),
        ("[redis]\nhello\n", "line 2 is neither [section] nor key = value"),
        (
            "[redis]\nredis_port = 1\nredis_port = 2\n",
            "[redis] redis_port stands there twice, again at line 3",
        ),
        ("[redis]\n[main]\n[redis]\n", "[redis] stands there twice, again at line 3"),
        ("[main]\nlog_dir = a\0b\n", "log_dir holds a NUL character; allowed: text"),
    ],
)
def test_a_file_that_is_no_ini_file_is_said_by_line(directory: Path, text: str, words: str) -> None:
    assert refusal(directory, text) == f"{directory / 'dev.cfg'}: {words}"


def test_a_file_of_other_bytes_is_no_ini_file(directory: Path) -> None:
    (directory / "dev.cfg").write_bytes(b"[main]\nstrategy = \xff\xfe\n")
    with pytest.raises(ConfigError, match="is not text in UTF-8"):
        MyConfiguration("dev", {}, directory)


def test_a_missing_file_is_named(directory: Path) -> None:
    (directory / "dev.cfg").unlink()
    with pytest.raises(ConfigError, match=r"dev\.cfg: cannot be read: No such file"):
        MyConfiguration("dev", {}, directory)


@settings(max_examples=80, deadline=None)
@given(
    name=st.sampled_from(sorted(KEYS)) | st.text("abcdefgredis_port", min_size=1, max_size=12),
    value=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30),
)
def test_any_variable_is_taken_or_refused_in_one_line(name: str, value: str) -> None:
    message = ""
    try:
        MyConfiguration("dev", {f"DQUANT_{name.upper()}": value})
    except ConfigError as exc:
        message = str(exc)
        assert f"DQUANT_{name.upper()}" in message or name == "secrets_file"
    assert len(message.splitlines()) <= 1


# --- secrets ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_in_the_configuration_is_refused_without_repeating_it(directory: Path, name: str) -> None:
    message = refusal(directory, f"[{KEYS[name].section}]\n{name} = hunter2\n")
    assert f"DQUANT_{name.upper()}" in message
    assert "secrets_file" in message
    assert "hunter2" not in message


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_comes_from_its_variable_or_a_private_file(directory: Path, name: str) -> None:
    assert (
        getattr(MyConfiguration("dev", {f"DQUANT_{name.upper()}": "hunter2"}, directory), name) == "hunter2"
    )
    path = directory / "secrets"
    path.write_text(f"[{KEYS[name].section}]\n{name} = hunter%3#;2 x\n")
    path.chmod(0o600)
    cfg = MyConfiguration("dev", {"DQUANT_SECRETS_FILE": str(path)}, directory)
    assert getattr(cfg, name) == "hunter%3#;2 x"
    assert "hunter" not in repr(cfg) + str(cfg) + f"{cfg!r:>200}"


def test_a_secrets_file_may_be_named_by_the_configuration(directory: Path) -> None:
    path = directory / "secrets"
    path.write_text("[okex]\nokex_api_key = hunter2\n")
    path.chmod(0o600)
    (directory / "dev.cfg").write_text(f"[main]\nsecrets_file = {path}\n")
    assert MyConfiguration("dev", {}, directory).okex_api_key == "hunter2"


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o601])
def test_a_secrets_file_that_others_can_read_is_refused_with_the_remedy(directory: Path, mode: int) -> None:
    path = directory / "secrets"
    path.write_text("[okex]\nokex_api_key = hunter2\n")
    path.chmod(mode)
    message = refusal(directory, variables={"DQUANT_SECRETS_FILE": str(path)})
    assert f"chmod 600 {path}" in message
    assert "hunter2" not in message


@pytest.mark.parametrize(
    "content",
    [
        "hunter2\n",
        "[okex]\nhunter2\n",
        "[okex]\nokex_api_key = hunter2\nokex_api_key = hunter2\n",
        "[main]\nokex_api_key = hunter2\n",
        "[okex]\nokex_api_kee = hunter2\n",
        "[redis]\nredis_url = hunter2@host\n",
    ],
)
def test_a_fault_in_a_secrets_file_is_said_without_its_contents(directory: Path, content: str) -> None:
    path = directory / "secrets"
    path.write_text(content)
    path.chmod(0o600)
    message = refusal(directory, variables={"DQUANT_SECRETS_FILE": str(path)})
    assert str(path) in message
    assert "hunter2" not in message


def test_a_directory_is_no_secrets_file_and_its_mode_is_left_alone(directory: Path) -> None:
    """ "chmod 600 /etc" would be no remedy."""
    message = refusal(directory, variables={"DQUANT_SECRETS_FILE": "/etc"})
    assert message == "DQUANT_SECRETS_FILE: secrets_file '/etc' is not a file"


def test_a_file_that_a_windows_editor_saved_is_read(directory: Path) -> None:
    (directory / "dev.cfg").write_bytes(b"\xef\xbb\xbf[redis]\r\nredis_port = 1\r\n")
    assert MyConfiguration("dev", {}, directory).redis_port == 1


def test_a_secrets_file_that_is_not_there_is_named(directory: Path) -> None:
    for name in (f"{directory}/none", "~nobody-of-this-name/none", str(directory)):
        message = refusal(directory, variables={"DQUANT_SECRETS_FILE": name})
        assert "secrets_file" in message or "chmod 600" in message or "cannot be read" in message


def test_a_redis_address_with_a_password_is_a_secret(directory: Path) -> None:
    message = refusal(directory, "[redis]\nredis_url = redis://user:hunter2@host:6379/0\n")
    assert "DQUANT_REDIS_URL" in message
    assert "hunter2" not in message
    assert "hunter2" not in refusal(directory, variables={"DQUANT_REDIS_URL": "redsi://user:hunter2@host"})
