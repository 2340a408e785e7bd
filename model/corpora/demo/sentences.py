"""The sentences of the demo corpus: four everyday domains, and sentences that mix their phrases in another way."""

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
        "{act} every {opening} in the {room} before {event}",
        "how warm is the {room} at {past} {hour}",
        "close the {opening} in the {room}",
        "turn {switch} every {device} before {event}",
        "is the {room} {opening} still open",
        "check the {device} in the {room} at {past} {hour}",
        "set every {device} to {count} on {day}",
        "turn the {device} {switch} at {hour}",
    ),
    "travel": (
        "i want a ticket from {city} to {city} on {day}",
        "when does the next {vehicle} from {city} leave for {city}",
        "book {count} seats on the {vehicle} to {city}",
        "show me every {vehicle} from {city} on {day}",
        "the {vehicle} to {city} leaves at {past} {hour}",
        "is there a {vehicle} to {city} after {hour} on {day}",
        "book a ticket for the {vehicle} to {city}",
        "i want {count} seats from {city} to {city}",
        "when is the {vehicle} to {city} on {day}",
        "my {vehicle} leaves {city} at {hour}",
        "show me the next {vehicle} to {city}",
        "is the {vehicle} from {city} still on",
    ),
    "times": (
        "wake me at {past} {hour} on {day}",
        "move the {event} from {day} to {day}",
        "remind me about {event} at {hour} on {day}",
        "is there a {event} before {past} {hour}",
        "set the alarm to {past} {hour} every {day}",
        "when is my next {event} in the {room}",
        "book the {event} for {count} on {day}",
        "is my {event} before or after {hour}",
        "wake me before {event} at {hour}",
        "please set my {event} to {past} {hour}",
        "call me about the {event} on {day}",
        "show me every {event} on {day} and {day}",
    ),
    "digits": (
        "{digit} {digit} {digit} and {digit} {digit}",
        "call {digit} {digit} {digit} {digit} {digit} {digit}",
        "my number is {digit} {digit} {digit} {digit}",
        "{digit} {digit} {digit} {digit} {digit} {digit}",
        "the code is {digit} {digit} {digit} or {digit} {digit} {digit}",
        "please call me on {digit} {digit} {digit} {digit}",
        "the number for {city} is {digit} {digit} {digit}",
        "remind me the code is {digit} {digit} {digit}",
        "my ticket is {digit} {digit} {digit} {digit} {digit}",
        "is my code {digit} {digit} {digit} or {digit} {digit}",
        "set the code to {digit} {digit} {digit} {digit}",
        "call {digit} {digit} {digit} at {past} {hour}",
    ),
}

# Only words of the domains: phrases of several of them in sentences that none of them has.
OTHER_GRAMMAR: Sequence[str] = (
    "wake me when the {vehicle} from {city} leaves",
    "turn the {device} {switch} before the {event} on {day}",
    "is the {opening} in the {room} still open at {hour}",
    "remind me to call {digit} {digit} {digit} {digit} on {day}",
    "book a {event} for {count} in {city}",
    "set the {device} to {digit} {digit} for {event} in the {room}",
    "show me the code {digit} {digit} {digit} and the next {vehicle}",
    "please move the {event} to {city} on {day}",
    "my ticket to {city} is {digit} {digit} {digit} {digit}",
    "i want the {room} warm at {past} {hour}",
    "check the {vehicle} and close the {room} {opening}",
    "is there a {event} in the {room} or the {room} at {hour}",
)

TRIES_PER_SENTENCE = 200


def demo_sentences(seed: int, train: int, dev: int, test: int) -> dict[str, list[str]]:
    """The sentences of each set by its name: sets are disjoint and have no word that `train` lacks."""
    rng = random.Random(f"demo sentences {seed}")
    in_domain = _fill_templates(interleave(list(DOMAINS.values())), rng)
    drawn: set[str] = set()
    sets = {"train": _draw_new(in_domain, train, drawn, None)}
    words = {word for sentence in sets["train"] for word in sentence.split()}
    other = _fill_templates(OTHER_GRAMMAR, rng)
    for role, count in (("dev", dev), ("test", test)):
        sets["test-in" if role == "test" else role] = _draw_new(in_domain, count, drawn, words)
        sets[f"{role}-ood-text"] = _draw_new(other, count, drawn, words)
        sets[f"{role}-ood-voice"] = _draw_new(in_domain, count, drawn, words)
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
