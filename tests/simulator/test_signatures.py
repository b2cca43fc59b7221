"""HMAC-SHA256 as the standard library computes it."""

import hashlib
import hmac

from hypothesis import given
from hypothesis import strategies as st

from dquant.simulator.signatures import hmac_sha256


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=100), st.binary(max_size=200))
def test_it_is_the_hmac_of_the_standard_library_for_any_secret_and_text(secret, text):
    for _ in range(2):  # the states of a secret are used again
        assert hmac_sha256(secret, text) == hmac.new(secret.encode(), text, hashlib.sha256).digest()
