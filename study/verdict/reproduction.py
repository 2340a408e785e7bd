"""Whether a model that was trained again has the figures of the first time: exactly, within chance, or not.

Trainings that differ only in the seed vary around a mean. Two groups of them, those of the study and those that were
made again, differ by more than chance where Student's t of the pooled variance says so; a single new training then has
to lie in the prediction interval of the first ones. With one training on each side nothing is known of chance, and only
equal figures count as the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from study.verdict.seed_effects import INTERVAL

EQUAL = 1e-9  # relative: figures are written with all their digits
_ENDS = ("/wer", "/cer", "/wer_final", "/cer_final", "perplexity")


@dataclass(frozen=True)
class Reproduction:
    """What became of a figure: `before` and `after` are its values by seed, the first of each with the same seed.

    `exact` says whether all figures of that seed are equal. `margin` is what chance explains of the difference of the
    means; None where it is not known.
    """

    label: str
    before: tuple[float, ...]
    after: tuple[float, ...]
    exact: bool
    margin: float | None

    @property
    def difference(self) -> float:
        return fmean(self.after) - fmean(self.before)

    @property
    def is_same(self) -> bool:
        return self.exact or (self.margin is not None and abs(self.difference) <= self.margin)


def compare_trainings(before: Sequence[Mapping[str, float]], after: Sequence[Mapping[str, float]]) -> Reproduction:
    """Trainings of one configuration against those that were made again, each by its metrics; the first of both have
    the same seed. The figure is the mean WER of the test sets that all have, or else the dev sets'."""
    label, names = _choose_figure([*before[:1], *after])
    ours, theirs = (
        tuple(fmean(one[name] for name in names) for one in group if all(name in one for name in names))
        for group in (before, after)
    )
    return Reproduction(label, ours, theirs, are_equal(before[0], after[0]), find_margin(ours, theirs))


def _choose_figure(trainings: Sequence[Mapping[str, float]]) -> tuple[str, list[str]]:
    common = [name for name in sorted(trainings[0]) if all(name in one for one in trainings)]
    tests = [name for name in common if name.startswith("test/") and name.endswith("/wer") and name.count("/") == 2]
    if tests:
        return f"WER on {_describe_sets([name.split('/')[1] for name in tests])}", tests
    name = "dev/wer_final" if "dev/wer_final" in common else "dev/wer"
    return "WER on the dev sets", [name]


def _describe_sets(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"the mean of {len(names)} test sets"


def are_equal(before: Mapping[str, float], after: Mapping[str, float]) -> bool:
    """Whether all error rates and perplexities that both have are equal; False where they share none."""
    names = [name for name in before if name in after and name.endswith(_ENDS)]
    return bool(names) and all(math.isclose(before[name], after[name], rel_tol=EQUAL) for name in names)


def find_margin(before: Sequence[float], after: Sequence[float]) -> float | None:
    """The difference of the groups' means that chance explains in 95 % of cases; None with one training each."""
    from scipy.special import stdtrit  # takes a while to import

    freedom = len(before) + len(after) - 2
    if freedom < 1:
        return None
    squares = math.fsum((value - fmean(group)) ** 2 for group in (before, after) for value in group)
    error = math.sqrt(squares / freedom * (1 / len(before) + 1 / len(after)))
    return float(stdtrit(freedom, (1 + INTERVAL) / 2)) * error


def describe_reproduction(found: Reproduction) -> str:
    """The answer in one line, with both figures."""
    if found.exact:
        return (
            f"same: {found.label} is {found.after[0]:.2f} % here, {found.before[0]:.2f} % there; all error rates and "
            "perplexities of the same seed are equal to the last digit"
        )
    here = f"{fmean(found.after):.2f} % here" + _count(found.after)
    figures = f"{found.label} is {here}, {fmean(found.before):.2f} % there" + _count(found.before)
    if found.margin is None:
        return (
            f"not the same: {figures}; with one training on each side nothing is known of chance, so train more here "
            "with --seeds 3"
        )
    word = "within" if found.is_same else "beyond"
    start = "same" if found.is_same else "not the same"
    return f"{start}: {figures}; the difference of {found.difference:+.2f} is {word} chance (±{found.margin:.2f}, 95 %)"


def _count(values: Sequence[float]) -> str:
    return f" (mean of {len(values)} seeds)" if len(values) > 1 else ""
