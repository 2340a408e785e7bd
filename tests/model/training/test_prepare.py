from __future__ import annotations

import logging
import re
import shutil
from pathlib import Path

import pytest

from model.errors import UserError
from model.recipe.files import with_values
from model.training.prepare import prepare, refuse_long_recordings


def test_preparing_makes_everything_once_and_fills_in_the_fingerprint(make_recipe, corpus) -> None:
    recipe = with_values(make_recipe(), {"data.fingerprint": None})
    assert prepare(recipe).data.fingerprint == corpus.fingerprint
    made = {path: path.stat().st_mtime_ns for path in (corpus.folder / "cache").rglob("*") if path.is_file()}
    prepare(recipe)
    assert made == {path: path.stat().st_mtime_ns for path in made}


def test_a_training_set_of_which_all_is_skipped_is_refused_before_anything_starts(make_recipe) -> None:
    message = r"no training utterance is left \(24 longer than data.longest_seconds\)"
    with pytest.raises(UserError, match=message):
        prepare(make_recipe({"data.longest_seconds": 0.2}))


def test_a_recording_that_is_too_long_to_score_is_refused_before_anything_starts(make_recipe, corpus) -> None:
    longest = {name: max(corpus.cuts(name), key=lambda cut: cut.duration) for name in corpus.sets}
    limit = longest["dev"].duration - 0.01
    count = sum(cut.duration > limit for cut in corpus.cuts("dev"))
    noun = "recording is" if count == 1 else "recordings are"
    message = f"set dev: {count} {noun} longer than data.longest_scored_seconds, {limit:g} s, the longest is "
    message += f"{longest['dev'].id} with {longest['dev'].duration:.1f} s; cut them at silences, or raise the limit if "
    with pytest.raises(UserError, match=re.escape(message + "memory allows")):
        prepare(make_recipe({"data.longest_scored_seconds": limit}))
    scored = max(cut.duration for name, cut in longest.items() if name != "train")
    assert prepare(make_recipe({"data.longest_scored_seconds": scored}))


def test_recordings_of_test_sets_are_looked_at_too_and_those_of_training_sets_are_not(make_recipe, corpus) -> None:
    durations = {name: [cut.duration for cut in corpus.cuts(name)] for name in corpus.sets}
    longest = max(corpus.sets, key=lambda name: max(durations[name]) if name != "train" else 0.0)
    limit = max(durations[longest]) - 0.01
    refuse_long_recordings(corpus, "train", max(durations["train"]))
    with pytest.raises(UserError, match=f"set {longest}: 1 recording is longer"):
        refuse_long_recordings(corpus, longest, limit)


def test_skipped_utterances_are_counted_and_logged(make_recipe, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        prepare(make_recipe({"data.longest_seconds": 1.8}))
    assert re.search(r"\d+ training utterances are skipped: longer than data.longest_seconds", caplog.text)


def test_a_cache_that_cannot_be_written_is_one_line(make_recipe, corpus, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(corpus.folder, copy, ignore=shutil.ignore_patterns("cache"))
    (copy / "cache").write_text("a file where a folder has to be")
    with pytest.raises(UserError, match=r"cache/.* cannot be written \(Not a directory\)|cache.*\(File exists\)"):
        prepare(make_recipe({"data.corpus": str(copy)}))
