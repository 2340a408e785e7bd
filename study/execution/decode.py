"""`decode`: the decodings of an ended study are searched, its trials ranked and their test sets scored again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from model.errors import UserError
from model.recipe.decoding import DecodingSearchConfig
from model.recipe.files import value_at, with_values
from model.recipe.recipe import Recipe
from model.weights.found_decoding import FoundDecoding, describe_language_models
from study.execution.hang_watch import end_hanging
from study.ledger.best import find_best
from study.ledger.events import StudyEnded, StudyInterrupted, TrialDecoded, TrialDecodingSearched
from study.ledger.lease import hold_lease
from study.ledger.ledger import Ledger
from study.ledger.records import TrialRecord, TrialState
from study.search.confirmation import MOST_SHARE

Print = Callable[[str], None]


def search_event(number: int, found: FoundDecoding) -> TrialDecodingSearched:
    """What was found for a trial, as an event."""
    fields = {name: value for name, value in asdict(found).items() if name != "search"}
    return TrialDecodingSearched(number=number, **fields)


def decode_study(ledger: Ledger, share: float | None, print_line: Print, base: Recipe | None = None) -> None:
    """Search the decoding of every complete trial, which trains nothing; `share` is of its training's own seconds.

    By default it is the recipe's, or where that is 0 the default of recipes. With a `base` recipe the trials are
    decoded by its settings instead of those that they were trained with, but for what the study searched. Test sets
    that were scored are scored again, with what was found on the dev sets. Raises a UserError where the study runs, or
    no trial can be decoded.
    """
    from model.runtime.memory import keep_freed_memory
    from model.weights.chosen import CHOSEN

    with hold_lease(ledger.folder, print_line) as lease:
        ledger.check_ownership = lease.check
        usable = [
            record
            for record in ledger.trials.values()
            if record.state is TrialState.COMPLETE and (ledger.trial_folder(record.number) / CHOSEN).is_dir()
        ]
        if not usable:
            raise UserError(
                f"study '{ledger.study.name}' in {ledger.folder} has no complete trial whose weights are there; "
                "continue it with `decred-study run`"
            )
        keep_freed_memory()
        has_ended = ledger.trials.has_ended
        for record in usable:
            what, limit = f"decoding trial {record.number:04d}", ledger.study.failures.stall_seconds
            with end_hanging(what, limit, computes=False, folder=ledger.trial_folder(record.number)):
                line = _decode(ledger, record, share, base)
            print_line(line)
        best = find_best(ledger.trials.values(), ledger.study.objective)
        fields = {"best": best.number, "best_recipe_hash": best.recipe_hash} if best is not None else {}
        if has_ended:
            ledger.append(StudyEnded(state=TrialState.COMPLETE, **fields))
        else:
            ledger.append(StudyInterrupted(reason="it was decoded before its end", **fields))


def _decode(ledger: Ledger, record: TrialRecord, share: float | None, base: Recipe | None) -> str:
    """Decode a trial and record what came of it; a line that says so."""
    from model.runtime.distributed import current_context
    from model.training.ending import read_finished, score_chosen
    from model.training.run import load_scored_run
    from model.weights.found_decoding import read_found

    folder, context = ledger.trial_folder(record.number), current_context()
    recipe = ledger.read_recipe(record)
    if base is not None:
        recipe = _decoded_as(base, recipe, ledger.study.search.recipe)
    # What confirms a finalist is searched to the end of its stages, however long that takes.
    recipe = _with_search(recipe, share if record.confirms is None else MOST_SHARE)
    chosen = read_finished(recipe, folder, context)
    if chosen is None:
        return f"trial {record.number:04d}: left out, its training did not come to its end"
    if not chosen.seconds:  # of a version that kept them in the ledger alone
        chosen = replace(chosen, seconds=sum(report.seconds.training or 0.0 for report in record.epochs))
    metrics = score_chosen(load_scored_run(recipe, folder, context), chosen, record.has_tests)
    found = read_found(folder)
    assert found is not None, "score_chosen has searched"
    ledger.append(search_event(record.number, found))
    ledger.append(
        TrialDecoded(
            number=record.number,
            decoding=found.decoding,
            decoding_hash=record.decoding_hash,
            metrics={name: value for name, value in metrics.items() if name not in ("epoch", "step", "finished")},
            seconds=metrics["decoding/seconds"],
        )
    )
    decoding = found.decoding
    return (
        f"trial {record.number:04d}: dev/wer {metrics['dev/wer']:.2f} -> {metrics['dev/wer_final']:.2f} with beam "
        f"{decoding['beam']}, CTC weight {decoding['ctc_weight']:g}, length penalty {decoding['length_penalty']:g}"
        f"{_describe_mixing(decoding['mixing'])}{_describe_language_models(decoding)}; "
        f"{len(found.tried)} decodings in {found.seconds:.0f} s, {100 * found.share:.0f} % of its training"
    )


def _describe_mixing(mixing: str | Sequence[float]) -> str:
    return "" if isinstance(mixing, str) else f", mixing {', '.join(f'{weight:.2g}' for weight in mixing)}"


def _describe_language_models(decoding: Mapping[str, Any]) -> str:
    words = describe_language_models(decoding)
    return "" if words == "none" else f", language models {words}"


def _decoded_as(base: Recipe, recipe: Recipe, searched: Iterable[str]) -> Recipe:
    """The recipe with the decoding settings of `base`, but for the keys that the study searches."""
    settings = {name: getattr(base, name).model_dump(mode="json") for name in ("decoding", "decoding_search")}
    own = {key: value_at(recipe, key) for key in searched if key.split(".")[0] in settings}
    return with_values(with_values(recipe, settings), own)


def _with_search(recipe: Recipe, share: float | None) -> Recipe:
    default: float = DecodingSearchConfig.model_fields["share"].default
    wanted = share if share is not None else recipe.decoding_search.share or default
    return with_values(recipe, {"decoding_search.share": wanted})
