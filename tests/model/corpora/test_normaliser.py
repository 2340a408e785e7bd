from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from model.corpora.normaliser import NORMALISERS, VERSIONS, normalise, version_of
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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Let's", "let us"),
        ("she's been like", "she has been like"),
        ("10km", "10 km"),
        ("RC232", "rc 232"),
        ("Mr. Park visited Assoc. Prof. Kim Jr.", "mister park visited associate professor kim junior"),
        ("two point five million", "2500000"),
        ("$20 million", "$20000000"),
        ("two double o eight", "2008"),
        ("nineteen fifties", "1950s"),
        ("thirty three thousand and three hundred and third", "33303rd"),
        ("august twenty sixth twenty twenty one", "august 26th 2021"),
        ("seventy six per cent", "76%"),
        ("minus 500", "-500"),
        ("three euros and sixty five cents", "€3.65"),
        ("Um, the colour [noise] of naïve cafés (laughs)", "the color of naive cafes"),
    ],
)
def test_whisper_english_gives_what_whisper_s_own_tests_and_paper_say(text: str, expected: str) -> None:
    assert normalise("whisper-english", text) == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("on the 21 st", "on the 21 saint"), ("it’s", "it s"), ("And a half!", "")]
)
def test_the_faults_of_whisper_s_normaliser_stay_so_that_wers_compare(text: str, expected: str) -> None:
    assert normalise("whisper-english", text) == expected


@given(st.text())
@example("$ hello")
@example("hello %")
def test_whisper_english_is_the_package_s_but_for_spaces_at_the_ends(text: str) -> None:
    from whisper_normalizer.english import EnglishTextNormalizer

    assert normalise("whisper-english", text) == " ".join(EnglishTextNormalizer()(text).split())


@pytest.mark.parametrize(
    ("text", "once", "twice"),
    [
        ("minus five", "-5", "5"),
        ("double o seven", "007", "7"),
        ("...", ".", ""),
        ("twenty first of May, 1995", "21st of may 1995", "21st of may 1995"),
        ("It's Mr. Smith's $20 colour television.",) + ("it is mister smith is $20 color television",) * 2,
    ],
)
def test_whisper_english_applied_twice_reads_signs_and_leading_zeros_anew(text: str, once: str, twice: str) -> None:
    assert normalise("whisper-english", text) == once
    assert normalise("whisper-english", once) == twice


def test_a_normaliser_s_version_names_the_package_that_has_its_rules() -> None:
    assert VERSIONS.keys() == NORMALISERS.keys()
    assert version_of("basic") == "basic 1"
    package = importlib.metadata.version("whisper-normalizer")
    assert version_of("whisper-english") == f"whisper-english 1 (whisper-normalizer {package})"


def test_the_version_of_an_unknown_normaliser_is_refused() -> None:
    with pytest.raises(UserError, match=r"normaliser 'basics' is unknown; .*basic"):
        version_of("basics")


def test_whisper_s_normaliser_is_imported_by_those_alone_who_use_it() -> None:
    program = (
        "import sys; from model.corpora.normaliser import normalise, version_of; "
        "normalise('basic', 'one'); version_of('whisper-english'); assert 'whisper_normalizer' not in sys.modules; "
        "normalise('whisper-english', 'one'); assert 'whisper_normalizer' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@given(st.sampled_from(["basic", "none"]), st.text())
@example("basic", "İstanbul")
@example("basic", "a\u200d\u0301")
@example("basic", "ŉ a''b 'n'")
def test_normalising_twice_by_our_own_rules_is_normalising_once(name: str, text: str) -> None:
    once = normalise(name, text)
    assert normalise(name, once) == once


@given(st.text())
def test_basic_leaves_single_spaces_and_none_at_the_ends(text: str) -> None:
    assert normalise("basic", text) == " ".join(normalise("basic", text).split())


def test_the_error_of_an_unknown_normaliser_names_the_nearest() -> None:
    with pytest.raises(UserError, match=r"normaliser 'basik' is unknown; did you mean 'basic'\?"):
        normalise("basik", "hello")
