"""From hypotheses to utterances that are aligned: one reference each, and the alignment that the metrics use."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import ascii_uppercase

from model.corpora.normaliser import check_normaliser, normalise
from model.errors import UserError
from model.evaluation.error_rates import ALIGNER
from model.strict import unknown_name
from study.errors.content import Content, Recognition, System, Utterance
from study.errors.recordings import add_recordings
from study.errors.systems import FoundSystem
from study.verdict.alignment import align_words
from study.verdict.comparison import check_settings, normalise_hypotheses
from study.verdict.hypotheses import Hypothesis, HypothesisSet, read_hypotheses

NO_SET = "all"  # the set of a file that names none


def gather(
    found: Sequence[FoundSystem],
    normaliser: str = "none",
    reference: Path | None = None,
    sets: Sequence[str] = (),
    corpus: Path | None = None,
) -> Content:
    """The utterances of the parts that all systems have, of these sets alone where they are given.

    An utterance that some system lacks stays, and is noted. Raises a UserError where systems were scored in different
    ways, have different references of an utterance or none, or share no part.
    """
    check_normaliser(normaliser)
    if len(found) > len(ascii_uppercase):
        raise UserError(f"{len(found)} systems were given, but a page shows at most {len(ascii_uppercase)}; give fewer")
    references = {key: one.text for key, one in read_hypotheses(reference).hypotheses.items()} if reference else {}
    parts, notes = _common_parts(found)
    utterances: list[Utterance] = []
    for part in parts:
        hypotheses = [_of_part(system, part) for system in found]
        for other in hypotheses[1:]:
            check_settings(hypotheses[0], other, any_decoding=True)
        utterances += _align_part(part, hypotheses, normaliser, references)
    utterances = _select(utterances, sets)
    systems = _describe_systems(found, parts)
    with_audio, remarks = add_recordings(utterances, _choose_corpus(found, corpus), is_required=corpus is not None)
    notes += [*_note_missing(systems, with_audio), *_note_settings(systems), *remarks]
    return Content(systems, tuple(with_audio), tuple(notes))


def _common_parts(found: Sequence[FoundSystem]) -> tuple[list[str], list[str]]:
    """The files of hypotheses that all systems have, and what is left out. Of single files the names need not agree."""
    if all(len(system.parts) == 1 for system in found):
        return list(found[0].parts), []
    common = [name for name in found[0].parts if all(name in system.parts for system in found)]
    if not common:
        has = "; ".join(f"{system.path} has {', '.join(system.parts)}" for system in found)
        raise UserError(f"no set is in all systems ({has}); give systems with a set in common")
    lacking = dict.fromkeys(name for system in found for name in system.parts if name not in common)
    return common, [f"Left out, because a system lacks them: {', '.join(lacking)}."] if lacking else []


def _of_part(system: FoundSystem, part: str) -> HypothesisSet:
    return system.parts[part] if part in system.parts else next(iter(system.parts.values()))


def _align_part(
    part: str, hypotheses: Sequence[HypothesisSet], normaliser: str, references: Mapping[str, str]
) -> list[Utterance]:
    """The utterances of a file in the first system's order, then those that only others have."""
    normalised = [normalise_hypotheses(one, normaliser) for one in hypotheses]
    names = {key: name for one in hypotheses for key, name in _read_set_names(one.path).items()}
    paths = " and ".join(str(one.path) for one in hypotheses)
    utterances = []
    for key in dict.fromkeys(key for one in normalised for key in one):
        sides = [one.get(key) for one in normalised]
        given = normalise(normaliser, references[key]) if key in references else None
        text = " ".join(_choose_reference(key, sides, given, paths).split())
        recognitions = tuple(None if side is None else _recognise(text, side.text) for side in sides)
        speaker = next((side.speaker for side in sides if side is not None and side.speaker), "")
        utterances.append(Utterance(key, part, names.get(key) or part or NO_SET, speaker, text, recognitions))
    return utterances


def _recognise(reference: str, hypothesis: str) -> Recognition:
    hypothesis = " ".join(hypothesis.split())
    letters = "C" * len(reference.split()) if reference == hypothesis else align_words(reference, hypothesis)
    return Recognition(hypothesis, letters)


def _choose_reference(key: str, sides: Sequence[Hypothesis | None], given: str | None, paths: str) -> str:
    """The one text of an utterance, as `compare` has it: the one that is given, or that of the systems' files."""
    if given is not None:
        return given
    texts = {side.reference for side in sides if side is not None and side.reference is not None}
    if not texts:
        raise UserError(f"{paths}: no reference of {key}; give --reference FILE.trn")
    if len(texts) > 1:
        first, second, *_ = sorted(texts)
        raise UserError(
            f"{paths} have different references of {key}, '{first}' and '{second}'; give hypotheses of the same "
            "corpus, or --normaliser basic"
        )
    return texts.pop()


def _read_set_names(path: Path) -> dict[str, str]:
    """The set of each utterance, where a file of a run names it: its dev sets are in one file."""
    if path.suffix != ".jsonl":
        return {}
    with path.open(encoding="utf-8") as lines:
        contents = [json.loads(line) for line in lines]
    return {content["id"]: content.get("set_name", "") for content in contents}


def _select(utterances: list[Utterance], sets: Sequence[str]) -> list[Utterance]:
    known = dict.fromkeys(name for one in utterances for name in (one.set_name, one.part) if name)
    for name in sets:
        if name not in known:
            raise UserError(f"set '{name}' is not among the hypotheses; {unknown_name(name, known)}")
    return [one for one in utterances if not sets or one.set_name in sets or one.part in sets]


def _describe_systems(found: Sequence[FoundSystem], parts: Sequence[str]) -> tuple[System, ...]:
    names = [system.name for system in found]
    return tuple(
        System(
            letter,
            system.name if names.count(system.name) == 1 else str(system.path),
            system.path,
            _of_part(system, parts[-1]).settings,
        )
        for letter, system in zip(ascii_uppercase, found, strict=False)
    )


def _choose_corpus(found: Sequence[FoundSystem], corpus: Path | None) -> Path | None:
    return corpus or next((system.corpus for system in found if system.corpus is not None), None)


def _note_missing(systems: Sequence[System], utterances: Sequence[Utterance]) -> list[str]:
    notes = []
    for number, system in enumerate(systems):
        missing = [one.id for one in utterances if one.recognitions[number] is None]
        if missing:
            notes.append(
                f"{system.letter} lacks {len(missing)} of {len(utterances)} utterances, such as {missing[0]}: its "
                "figures are of those that it has, and cannot be compared with others' as they are."
            )
    return notes


def _note_settings(systems: Sequence[System]) -> list[str]:
    notes = []
    others = sorted({system.settings["aligner"] for system in systems if "aligner" in system.settings} - {ALIGNER})
    if others:
        notes.append(
            f"Scored with {', '.join(others)}, aligned here with {ALIGNER}: of equally good alignments each "
            "has its own."
        )
    decodings = [system.settings.get("decoding") for system in systems]
    known = [decoding for decoding in decodings if decoding]
    if any(decoding != known[0] for decoding in known):
        notes.append("The systems were decoded in different ways, each in its own.")
    return notes
