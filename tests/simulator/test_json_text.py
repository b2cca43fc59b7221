"""JSON text is that of the standard library."""

import json

from hypothesis import given
from hypothesis import strategies as st

from dquant.simulator.json_text import json_text

texts = st.text(st.characters(max_codepoint=130)) | st.text(st.characters())
plain = texts | st.integers() | st.booleans() | st.none() | st.floats(1e-3, 1e7)


@given(st.dictionaries(texts, plain | st.lists(plain, max_size=3), max_size=5))
def test_it_is_the_text_of_the_standard_library(value):
    assert json_text(value) == json.dumps(value, separators=(",", ":"))
