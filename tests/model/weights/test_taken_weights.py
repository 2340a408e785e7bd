"""The one line that says what a training started from, and the record that has all of it."""

from __future__ import annotations

import json
from pathlib import Path

from model.weights.taken_weights import INITIALISATION_FILE, TakenWeights, TensorNote


def note(name: str, size: int, source: str | None = None, rows: int | None = None, reason: str | None = None):
    return TensorNote(name, (size, 10), source, rows, reason)


TAKEN = (note("encoder.a.weight", 20_000, "encoder.a.weight"), note("ctc.1.weight", 50, "ctc.1.weight", 30))
FRESH = (
    note("encoder.b", 1, reason="these weights have none"),
    note("decoder.x.one", 2, reason="not in initialisation.take"),
    note("decoder.x.two", 3, reason="not in initialisation.take"),
    note("decoder.final.weight", 50, reason="shape (50, 10), there (64, 10)"),
)


def test_what_starts_fresh_is_named_together_where_the_reason_is_the_same() -> None:
    taken = TakenWeights("runs/first", "abc", TAKEN, FRESH, (note("decoder.y", 4),), vocabulary=50, same_ids=7)
    assert taken.describe() == (
        "init_from runs/first: took 2 tensors (0.2 M parameters), but 30 of 50 rows of ctc.1.weight; 4 tensors (560 "
        "parameters) start fresh: encoder.b (these weights have none), decoder.x.* (not in initialisation.take), "
        "decoder.final.weight (shape (50, 10), there (64, 10)); not used: decoder.y"
    )


def test_a_line_names_four_groups_and_counts_the_others() -> None:
    fresh = tuple(note(f"decoder.{name}", 1, reason=f"reason {name}") for name in "abcdef")
    line = TakenWeights("first", "abc", TAKEN[:1], fresh, (), vocabulary=50).describe()
    assert line.endswith("decoder.c (reason c), decoder.d (reason d), and 2 more")
    assert TakenWeights("first", "abc", (), fresh[:1], (), vocabulary=50).describe() == (
        "init_from first: took nothing; 1 tensor (10 parameters) starts fresh: decoder.a (reason a)"
    )


def test_rows_that_were_taken_by_id_are_mistaken_only_where_ids_stand_for_other_pieces() -> None:
    by_id = (note("decoder.final.weight", 50, "decoder.final.weight"),)
    warning = "only 7 of 50 token ids stand for the same piece there, but rows were taken by id"
    for tensors, same_ids, is_warned in ((by_id, 7, True), (by_id, 50, False), (by_id, None, False), (TAKEN, 7, False)):
        line = TakenWeights("first", "abc", tensors, (), (), vocabulary=50, same_ids=same_ids).describe()
        assert (warning in line) == is_warned


def test_the_record_has_every_tensor_and_counts_rows_that_are_lacking_as_fresh(tmp_path: Path) -> None:
    renamed = note("decoder.x", 5, "decoder.z")
    TakenWeights("first", "abc", (*TAKEN, renamed), FRESH, (), vocabulary=50).record(tmp_path)
    record = json.loads((tmp_path / INITIALISATION_FILE).read_text())
    assert record["parameters"] == {"taken": 200_350, "fresh": 560 + 200, "unused": 0}
    assert record["taken"] == [
        {"name": "encoder.a.weight", "shape": [20_000, 10]},
        {"name": "ctc.1.weight", "shape": [50, 10], "rows": 30},
        {"name": "decoder.x", "shape": [5, 10], "source": "decoder.z"},
    ]
    assert record["fresh"][0] == {"name": "encoder.b", "shape": [1, 10], "reason": "these weights have none"}
    assert (record["unused"], record["same_token_ids"]) == ([], None)
