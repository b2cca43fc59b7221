"""Environments of other people's clients: what is pinned, and what is said where there is no index."""

import re

import pytest

from tests.conformance import environments

LOCKS = [environments.HERE / f"requirements-{name}.lock" for name in environments.NAMES]


def test_without_an_index_the_reason_is_said_and_nothing_half_made_counts(tmp_path, monkeypatch):
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    uv = environments._uv()
    monkeypatch.setattr(environments, "_uv", lambda: uv)
    monkeypatch.setattr(environments, "TOOLS", tmp_path / "tools")
    for _ in range(2):
        with pytest.raises(environments.EnvironmentMissing, match=r"^uv pip: "):
            environments.environment("bitmex")


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_a_lock_pins_every_package_by_hash_and_names_no_address(lock):
    text = lock.read_text()
    assert "://" not in text
    pinned = re.findall(r"^([a-z0-9-]+)==\S+.*\n    --hash=sha256:[0-9a-f]{64}", text, re.MULTILINE)
    assert len(pinned) == len(re.findall(r"^[a-z]", text, re.MULTILINE))
    asked = lock.with_suffix(".in").read_text().split()
    assert all(f"\n{line} " in f"\n{text}" for line in asked)
