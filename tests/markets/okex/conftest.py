"""Golden frames of OKX, and the recorded ones where they are there."""

from pathlib import Path

import pytest

GOLDEN = Path(__file__).parents[2] / "data" / "okex"
RECORDED = Path(__file__).parents[4] / "shared" / "fixtures"


@pytest.fixture
def golden():
    """Return the frames of a golden file, one a line."""
    return lambda name: (GOLDEN / name).read_text().splitlines()


@pytest.fixture
def golden_body():
    """Return a golden REST answer as it came."""
    return lambda name: (GOLDEN / name).read_bytes()


@pytest.fixture
def recorded():
    """Return the folder of recorded payloads, which are no part of the project."""
    if not RECORDED.is_dir():
        pytest.skip(f"no recorded payloads at {RECORDED}")
    return RECORDED
