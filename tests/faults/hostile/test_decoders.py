"""Decoders of rows, headers and foreign answers take any bytes: an answer, or an error of the tree, no other."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.faults.hostile.decoders import CORPUS, TARGETS, violation


@pytest.mark.parametrize("target", TARGETS)
def test_a_decoder_takes_the_corpus(target: str) -> None:
    wrong = [found for data in CORPUS[target] if (found := violation(target, data))]
    assert not wrong, "\n".join(wrong)


def test_every_target_has_a_corpus() -> None:
    assert set(CORPUS) == set(TARGETS)


_TOKENS = [
    b"{", b"}", b"[", b'"a"', b":", b",", b"null", b"1", b"-1", b"\n", b"\n\n", b"http://", b"\\ud800", b"9" * 25,
    b"\xff", b"\xed\xa0\x80", b".", b"GMT", b"succeeded", b"\x01" + b"\x7f" * 8, b"\x04", b"\0",
]  # fmt: skip
BYTES = st.one_of(
    st.binary(max_size=200),
    st.lists(st.sampled_from(_TOKENS), max_size=12).map(b"".join),
    st.tuples(st.integers(0, 255), st.integers(0, 7), st.binary(max_size=9)).map(lambda t: bytes(t[:2]) + t[2]),
)


@pytest.mark.parametrize("target", TARGETS)
@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(data=BYTES)
@example(data=b"")
def test_a_decoder_takes_any_bytes(target: str, data: bytes) -> None:
    assert violation(target, data) is None
