"""The sentences of the demo corpus: four everyday domains, and another grammar over the same words."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence

from model.errors import UserError

SLOTS: Mapping[str, Sequence[str]] = {
    "device": ("light", "lamp", "heater", "fan", "radio", "cooker"),
    "room": ("kitchen", "bedroom", "bathroom", "garden", "hall", "office"),
    "opening": ("door", "window", "curtain"),
    "act": ("open", "close", "check"),
    "switch": ("on", "off"),
    "digit": ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    "hour": ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    "count": ("two", "three", "four", "five", "six", "seven", "eight", "nine"),
    "city": ("london", "paris", "rome", "berlin", "madrid", "dublin", "vienna"),
    "vehicle": ("train", "bus", "boat", "plane"),
    "day": ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"),
    "event": ("breakfast", "lunch", "dinner", "meeting"),
    "past": ("half past", "quarter past", "quarter to"),
}

DOMAINS: Mapping[str, Sequence[str]] = {
    "home": (
        "turn {switch} the {device} in the {room} for {event}",
        "please {act} the {room} {opening} at {hour}",
        "set the {device} in the {room} to {hour}",
        "is the {device} still {switch} in the {room} or the {room}",
    ),
    "travel": (
        "i want a ticket from {city} to {city} on {day}",
        "when does the next {vehicle} from {city} leave for {city}",
        "book {count} seats on the {vehicle} to {city}",
        "show me every {vehicle} from {city} on {day}",
    ),
    "times": (
        "wake me at {past} {hour} on {day}",
        "move the {event} from {day} to {day}",
        "remind me about {event} at {hour} on {day}",
        "is there a {event} before {past} {hour}",
    ),
    "digits": (
        "{digit} {digit} {digit} and {digit} {digit}",
        "call {digit} {digit} {digit} {digit} {digit} {digit}",
        "my number is {digit} {digit} {digit} {digit}",
        "{digit} {digit} {digit} {digit} {digit} {digit}",
    ),
}

# Only words of the domains, in an order that none of them has.
OTHER_GRAMMAR: Sequence[str] = (
    "there is a {device} on every {vehicle} in {city}",
    "i leave the {opening} in my {room} open before {event}",
    "call {city} when the {device} is {switch}",
    "{event} on {day} and {event} on {day}",
    "does the {vehicle} show {city} the {opening} at {event}",
    "{count} seats in the {room} want {count} {device} next to me",
    "my {room} is about {count} past the {opening}",
    "{city} is still next to {city} or {city}",
    "please move the {vehicle} to the {room} and book a {device}",
    "set a {opening} and wake the {room} for {event} in {city}",
)

TRIES_PER_SENTENCE = 200


def demo_sentences(seed: int, train: int, dev: int, test: int) -> dict[str, list[str]]:
    """The sentences of each set by its name: sets are disjoint and have no word that `train` lacks."""
    rng = random.Random(f"demo sentences {seed}")
    in_domain = _fill_templates(interleave(list(DOMAINS.values())), rng)
    drawn: set[str] = set()
    sets = {"train": _draw_new(in_domain, train, drawn, None)}
    words = {word for sentence in sets["train"] for word in sentence.split()}
    sets["dev"] = _draw_new(in_domain, dev, drawn, words)
    sets["test-in"] = _draw_new(in_domain, test, drawn, words)
    sets["test-ood-text"] = _draw_new(_fill_templates(OTHER_GRAMMAR, rng), test, drawn, words)
    sets["test-ood-voice"] = _draw_new(in_domain, test, drawn, words)
    return sets


def interleave(groups: Sequence[Sequence[str]]) -> list[str]:
    """The first of each group, the second of each group, ...: any stretch has an equal share of all groups."""
    return [template for row in zip(*groups, strict=True) for template in row]


def _fill_templates(templates: Sequence[str], rng: random.Random) -> Iterator[str]:
    """Sentences without end, the templates in turn. Slots are filled from shuffled decks: no word becomes rare."""
    decks: dict[str, list[str]] = {slot: [] for slot in SLOTS}

    def draw(match: re.Match[str]) -> str:
        slot = match[1]
        if not decks[slot]:
            decks[slot] = rng.sample(SLOTS[slot], len(SLOTS[slot]))
        return decks[slot].pop()

    while True:
        for template in templates:
            yield re.sub(r"\{(\w+)\}", draw, template)


def _draw_new(sentences: Iterator[str], count: int, drawn: set[str], words: set[str] | None) -> list[str]:
    """The next `count` sentences that are new and consist of `words`; they are added to `drawn`."""
    chosen: list[str] = []
    for _ in range(count * TRIES_PER_SENTENCE):
        if len(chosen) == count:
            break
        sentence = next(sentences)
        if sentence not in drawn and (words is None or words.issuperset(sentence.split())):
            drawn.add(sentence)
            chosen.append(sentence)
    if len(chosen) < count:
        raise UserError(
            f"the demo has {len(chosen)} of the {count} sentences asked for; ask for fewer, or train on more"
        )
    return chosen
