"""What a person may enqueue: a recipe file, values on the base recipe, or a training that starts from a trial."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from open_session import TINY, OpenSession, report

from model.errors import UserError
from model.network.making import count_parameters
from model.recipe.files import with_values
from model.strict import to_yaml
from model.weights import initial
from study.execution.enqueuing import describe_recipe, make_enqueued
from study.execution.orders import judge_command
from study.ledger.commands import make_command
from study.ledger.ledger import Ledger


@pytest.fixture
def ledger(running: OpenSession) -> Ledger:
    """A study with a complete trial 0, and trial 1, which runs."""
    for _ in range(2):
        running.session.next()
    running.session.record_epoch(0, report(2))
    running.session.complete(0, {"dev/wer": 40.0, "finished": 1.0})
    return running.ledger


def test_values_are_set_on_the_base_recipe_by_their_short_names_too(ledger: Ledger) -> None:
    words = ["ctc_weight=0.9", "optimiser.learning_rate=1e-3", "auxiliary.placement=[1]", "auxiliary.weights=[0.5]"]
    recipe = make_enqueued(describe_recipe(words), ledger)
    assert recipe == with_values(
        TINY,
        {
            "loss.ctc_weight": 0.9,
            "optimiser.learning_rate": 1e-3,
            "loss.auxiliary.placement": [1],
            "loss.auxiliary.weights": [0.5],
        },
    )


@pytest.mark.parametrize("text", ["2026-01-01", "2026-13-01"])
def test_what_yaml_takes_for_a_date_is_a_text(text: str, ledger: Ledger) -> None:
    assert make_enqueued(describe_recipe([f"name={text}"]), ledger).name == text


def test_a_recipe_file_is_taken_whole_on_the_studys_corpus(ledger: Ledger, tmp_path: Path) -> None:
    mine = with_values(TINY, {"training.epochs": 7, "decoder.layers": 3})
    (tmp_path / "mine.yaml").write_text(to_yaml(mine))
    assert make_enqueued(describe_recipe([str(tmp_path / "mine.yaml")]), ledger).hash == mine.hash


def test_a_training_that_extends_a_trial_starts_from_its_weights_and_trains_so_many_epochs_more(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(initial, "fingerprint_weights", lambda folder: "ab" * 8)
    recipe = make_enqueued(describe_recipe(["training.epochs=+10"], source=0), ledger)
    first = ledger.read_recipe(ledger.trials[0])
    assert (recipe.init_from, recipe.init_fingerprint) == (str(ledger.trial_folder(0)), "ab" * 8)
    assert recipe.training == first.training.model_copy(update={"epochs": 10}), "its schedule is that of ten epochs"
    assert (recipe.loss, recipe.encoder) == (first.loss, first.encoder)
    assert recipe.hash != first.hash


@pytest.mark.parametrize(
    ("words", "source", "expected"),
    [
        ([], None, r"^nothing is enqueued; give a recipe file \(.yaml\), key=value words, or --from N$"),
        (["epochs"], None, r"^'epochs' is neither a recipe file \(.yaml\) nor key=value"),
        (["x.yaml"], 3, r"^--from 3 goes with key=value words, not with the recipe file x.yaml$"),
        (["training.epochs=+3"], None, r"^'training.epochs=\+3' adds to nothing; only training.epochs takes \+N"),
        (["loss.ctc_weight=[1"], None, r"^'loss.ctc_weight=\[1' is not valid YAML; quote the value$"),
        (["optimizer.learning_rate=1"], None, r"^enqueue: .*'optimizer.*did you mean 'optimiser"),
        (["loss.ctc_weight=3"], None, r"^enqueue: 'loss.ctc_weight' is 3"),
        (["data.corpus=/other"], None, r"^a trial has the study's corpus; leave out data.corpus"),
        (
            ["tokenizer.vocabulary=60"],
            None,
            r"^tokenizer.vocabulary is 60, but \d+ in this study, whose trials share it",
        ),
        (["training.epochs=3"], 7, r"^study 's' has no trial 7 to start from$"),
        (["training.epochs=3"], 1, r"^trial 0001 has not ended, it is running; wait until it has its weights$"),
    ],
)
def test_what_the_study_cannot_try_is_one_line(
    words: list[str], source: int | None, expected: str, ledger: Ledger
) -> None:
    with pytest.raises(UserError, match=expected) as raised:
        make_enqueued(describe_recipe(words, source), ledger)
    assert "\n" not in str(raised.value)


def test_a_recipe_of_another_corpus_is_refused_with_both(ledger: Ledger) -> None:
    other = json.dumps({"recipe": with_values(TINY, {"data.corpus": "/other"}).model_dump(mode="json")})
    with pytest.raises(
        UserError, match=r"^the recipe was made for the corpus /other \(not prepared\), but the study has /sp"
    ):
        make_enqueued(other, ledger)


def test_a_recipe_with_more_parameters_than_the_study_allows_is_refused_with_both_numbers(ledger: Ledger) -> None:
    allowed = count_parameters(TINY)
    objective = ledger.study.objective.model_copy(update={"limits": {"parameters": float(allowed)}})
    ledger.study = ledger.study.model_copy(update={"objective": objective})

    def enqueue(word: str) -> str:
        command = make_command("enqueue", value=describe_recipe([word]))
        return judge_command(command, ledger, is_running=True).line

    assert enqueue("ctc_weight=0.4") == "enqueued: loss.ctc_weight 0.4; it is tried next"
    larger = count_parameters(with_values(TINY, {"decoder.layers": 6}))
    with pytest.raises(UserError) as raised:
        enqueue("decoder.layers=6")
    assert str(raised.value) == (
        f"the recipe is not enqueued: its model has {larger:,} parameters, objective.limits allows {allowed:,}; "
        "enqueue a smaller model, or raise that limit"
    )
