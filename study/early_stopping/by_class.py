"""A rule for each class of recipes: trials are compared with those of their class alone.

A class whose trainings learn later would lose all of them to the other one, and could not be compared with it in the
end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from study.early_stopping.rule import Rule, Ruling

ClassOf = Callable[[int], str]


class ByClass:
    """`rules` by class; `class_of` gives the class of a trial. As a `Rule`."""

    def __init__(self, rules: Mapping[str, Rule], class_of: ClassOf) -> None:
        self._rules, self._class_of = dict(rules), class_of

    def decide(self, number: int, epoch: int, metrics: Mapping[str, float], *, baseline: bool, last: bool) -> Ruling:
        """See `Rule`. A trial of none of the classes, a baseline such as `interctc`, is compared with nothing."""
        rule = self._find_rule(number)
        return Ruling.CONTINUE if rule is None else rule.decide(number, epoch, metrics, baseline=baseline, last=last)

    def explain(self, number: int) -> str | None:
        """See `Rule`."""
        rule = self._find_rule(number)
        return None if rule is None else rule.explain(number)

    def remove(self, number: int) -> None:
        """See `Rule`."""
        if (rule := self._find_rule(number)) is not None:
            rule.remove(number)

    def override(self, number: int, ended: bool) -> None:
        """See `Rule`."""
        if (rule := self._find_rule(number)) is not None:
            rule.override(number, ended)

    def promote_next(self, closed: bool = False) -> int | None:
        """See `Rule`; the classes are asked in their order."""
        for rule in self._rules.values():
            if (number := rule.promote_next(closed)) is not None:
                return number
        return None

    def _find_rule(self, number: int) -> Rule | None:
        return self._rules.get(self._class_of(number))
