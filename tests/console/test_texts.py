"""Stored values as somebody reads them."""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as some
from markupsafe import Markup

from taquba_workflow_sync.console import texts

pytestmark = pytest.mark.embedded


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, ""), (-5, "0 ms"), (0, "0 ms"), (0.012, "12 ms"), (0.9994, "999 ms"), (0.9999, "1.0 s"), (3.42, "3.4 s"),
        (9.94, "9.9 s"), (9.96, "10 s"), (59.9, "60 s"), (59.96, "1 min"), (300, "5 min"), (3569, "59 min"),
        (3571, "1 h"), (7500, "2 h 5 min"), (172_799, "2 d"), (172_800 + 4 * 3600, "2 d 4 h"), (3e9, "34722 d 5 h"),
    ],
)  # fmt: skip
def test_a_duration_has_the_unit_that_fits(seconds: float | None, said: str) -> None:
    assert texts.duration(seconds).replace("60 s", "60 s") == said


def test_numbers_and_sizes_are_read_at_a_glance() -> None:
    assert [texts.number(each) for each in (0, 999, 1_000_000, 2.0, 1234.56, 0.04, -7)] == [
        "0", "999", "1,000,000", "2", "1,234.6", "0.04", "-7",
    ]  # fmt: skip
    assert [texts.size(each) for each in (0, 1023, 1024, 64 * 2**20, 5 * 2**30)] == [
        "0 B", "1023 B", "1.0 KiB", "64.0 MiB", "5.0 GiB",
    ]  # fmt: skip


def test_a_moment_says_its_zone_and_is_there_for_machines() -> None:
    at = datetime(2026, 11, 27, 1, 2, 3, 4000, tzinfo=timezone(timedelta(hours=2)))
    assert texts.moment(at) == ('<time datetime="2026-11-26T23:02:03.004+00:00">2026-11-26 23:02:03 UTC</time>')
    assert texts.moment(None) == "" and isinstance(texts.moment(datetime.min.replace(tzinfo=UTC)), Markup)


@given(some.text())
def test_what_cannot_be_seen_is_spelled_out_and_the_rest_is_as_it_was(text: str) -> None:
    seen = texts.visible(text)
    for each in seen:
        assert each in "\n\t" or unicodedata.category(each) not in ("Cc", "Cs", "Cf", "Zl", "Zp") or each in _LETTERS
    if all(unicodedata.category(each)[0] in "LNPS" for each in text):
        assert seen == text
    assert texts.visible(seen) == seen


#: Of the characters for formatting these belong to the writing of a language.
_LETTERS = {chr(each) for each in (*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD)} | {
    chr(each) for each in (*range(0x13430, 0x13440), *range(0x1BCA0, 0x1BCA4), *range(0x1D173, 0x1D17B))
}


def test_what_is_markup_already_is_not_touched_and_what_is_sent_back_is_exact() -> None:
    assert texts.visible(Markup("<b>\u202e</b>")) == Markup("<b>\u202e</b>") and texts.visible(7) == 7
    assert texts.exact("\u202e<b>\"'") == "\u202e&lt;b&gt;&#34;&#39;"
    assert texts.visible(texts.exact("\u202e")) == "\u202e"


@given(some.binary(max_size=200), some.sampled_from([*texts.FORMS, "other"]))
def test_bytes_of_any_kind_are_shown(data: bytes, form: str) -> None:
    assert texts.form_of(data) in texts.FORMS
    assert isinstance(texts.shown(data, form), str) and isinstance(texts.shown(data, texts.form_of(data)), str)


@pytest.mark.parametrize(
    ("data", "form"),
    [
        (b'{"a": 1}', "json"), (b"[]", "json"), (b"7", "text"), (b'"a"', "text"), (b"plain", "text"), (b"", "text"),
        (b"\xff", "hex"), (b"\x00\x01\x02", "hex"), (b"a" * 300_000, "text"), (b"\xff" + b"a" * 300_000, "hex"),
        (("\u00e9" * 200_001).encode(), "text"), (b"[" + b"1," * 200_000 + b"1]", "text"), (b"\x01" * 300_000, "hex"),
        (b"x" + "\U0001f600".encode() * 100_000, "text"),
    ],
    ids=lambda value: repr(value)[:12],
)  # fmt: skip
def test_bytes_are_shown_in_the_form_in_which_they_are_read_best(data: bytes, form: str) -> None:
    assert texts.form_of(data) == form


def test_of_a_long_text_no_character_is_cut() -> None:
    data = b"x" + "\U0001f600".encode() * 200_000
    shown = texts.shown(data, "text")
    assert len(shown) == texts.MOST_SHOWN and set(shown) == {"x", "\U0001f600"}


def test_a_hexdump_says_where_it_is_and_what_can_be_read() -> None:
    assert texts.shown(b"GET / HTTP/1.1\r\n\x00\xff", "hex").split("\n") == [
        "00000000  47 45 54 20 2f 20 48 54 54 50 2f 31 2e 31 0d 0a  |GET / HTTP/1.1..|",
        "00000010  00 ff                                            |..|",
    ]
