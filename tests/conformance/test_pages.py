"""The snippets of docs/simulator.md do what the page says, each in the environment of its client."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "simulator.md"
SNIPPET = re.compile(r"^<!-- test: client (\w+) -->\n```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SNIPPETS = SNIPPET.findall(PAGE.read_text("utf-8"))
DEADLINE_S = 40
pytestmark = pytest.mark.timeout(240)  # the first of them makes the environments


def test_the_page_has_a_snippet_for_each_client():
    assert {name for name, _ in SNIPPETS} >= {"okex", "bitmex", "cryptofeed", "own"}


@pytest.mark.parametrize(
    ("name", "text"), SNIPPETS, ids=[f"{at}-{name}" for at, (name, _) in enumerate(SNIPPETS)]
)
def test_a_snippet_of_the_page_prints_what_the_venue_says(name, text, pair, python_of, tmp_path):
    python = sys.executable if name == "own" else str(python_of(name))
    addresses = pair.child.addresses
    for port, venue in (("8101", "okex"), ("8102", "bitmex")):
        there = addresses[venue]["rest"].removeprefix("http://")
        text = text.replace(f"127.0.0.1:{port}", there)
    assert ":8101" not in text
    assert ":8102" not in text
    with subprocess.Popen(
        [python, "-u", "-c", text],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    ) as client:
        line = client.stdout.readline()  # cryptofeed never ends by itself
        try:
            client.wait(2 if name == "cryptofeed" else DEADLINE_S)
        except subprocess.TimeoutExpired:
            client.kill()
        errors = client.stderr.read()
    assert line.strip(), errors
    assert "Traceback" not in errors, errors
    assert re.search(r"BTC-USD|BTC/USD|bids", line), line
