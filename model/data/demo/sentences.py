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
    """The sentences of each set, by its name: disjoint sets, and no word that `train` does not have."""
    rng = random.Random(f"demo sentences {seed}")
    in_domain = _sentences(interleaved(list(DOMAINS.values())), rng)
    seen: set[str] = set()
    sets = {"train": _take(in_domain, train, seen, None)}
    words = {word for sentence in sets["train"] for word in sentence.split()}
    sets["dev"] = _take(in_domain, dev, seen, words)
    sets["test-in"] = _take(in_domain, test, seen, words)
    sets["test-ood-text"] = _take(_sentences(OTHER_GRAMMAR, rng), test, seen, words)
    sets["test-ood-voice"] = _take(in_domain, test, seen, words)
    return sets


def interleaved(groups: Sequence[Sequence[str]]) -> list[str]:
    """The first of each group, the second of each group, ...: any stretch has an equal share of all groups."""
    return [template for row in zip(*groups, strict=True) for template in row]


def _sentences(templates: Sequence[str], rng: random.Random) -> Iterator[str]:
    """Endless sentences, the templates in turn. Slots are filled from shuffled decks, so that rare words cannot be."""
    decks: dict[str, list[str]] = {slot: [] for slot in SLOTS}

    def draw(match: re.Match[str]) -> str:
        slot = match[1]
        if not decks[slot]:
            decks[slot] = rng.sample(SLOTS[slot], len(SLOTS[slot]))
        return decks[slot].pop()

    while True:
        for template in templates:
            yield re.sub(r"\{(\w+)\}", draw, template)


def _take(sentences: Iterator[str], count: int, seen: set[str], words: set[str] | None) -> list[str]:
    """The next `count` sentences that are new and need no other words; they are added to `seen`."""
    taken: list[str] = []
    for _ in range(count * TRIES_PER_SENTENCE):
        if len(taken) == count:
            break
        sentence = next(sentences)
        if sentence not in seen and (words is None or words.issuperset(sentence.split())):
            seen.add(sentence)
            taken.append(sentence)
    if len(taken) < count:
        raise UserError(
            f"the demo has {len(taken)} of the {count} sentences asked for; ask for fewer, or train on more"
        )
    return taken
