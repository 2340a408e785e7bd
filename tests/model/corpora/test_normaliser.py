from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from model.corpora.normaliser import NORMALISERS, normalise
from model.errors import UserError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, World!", "hello world"),
        ("Don't  STOP\tnow", "don't stop now"),
        ("the dogs' bowl, 'tis full", "the dogs bowl tis full"),
        ("It’s Bob’s", "it's bob's"),
        ("twenty-one", "twenty one"),
        ("ﬁve ＡＢＣ", "five abc"),
        ("cafe\u0301", "café"),
        ("so\u00adft", "soft"),
        ("किताब, पढ़ो।", "किताब पढ़ो"),
        ("... ?!", ""),
    ],
)
def test_basic_keeps_words_and_the_apostrophes_inside_them(text: str, expected: str) -> None:
    assert normalise("basic", text) == unicodedata.normalize("NFKC", expected)


def test_none_changes_nothing() -> None:
    assert normalise("none", " Hello,  World! ") == " Hello,  World! "


@given(st.sampled_from(sorted(NORMALISERS)), st.text())
@example("basic", "İstanbul")
@example("basic", "a\u200d\u0301")
@example("basic", "ŉ a''b 'n'")
def test_normalising_twice_is_normalising_once(name: str, text: str) -> None:
    once = normalise(name, text)
    assert normalise(name, once) == once


@given(st.text())
def test_basic_leaves_single_spaces_and_none_at_the_ends(text: str) -> None:
    assert normalise("basic", text) == " ".join(normalise("basic", text).split())


def test_the_error_of_an_unknown_normaliser_names_the_nearest() -> None:
    with pytest.raises(UserError, match=r"normaliser 'basik' is unknown; did you mean 'basic'\?"):
        normalise("basik", "hello")
