"""Where a driver takes commands in: once a second it looks into the control folder and carries out what is new."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from model.errors import UserError
from study.early_stopping.rule import Rule, Ruling
from study.execution.ended_trials import tidy_trial
from study.execution.orders import Order, judge_command
from study.ledger.commands import (
    Command,
    CommandAnswer,
    list_commands,
    read_command,
    remove_old_answers,
    write_answer,
)
from study.ledger.event_lines import to_line
from study.ledger.events import ControlGiven
from study.ledger.ledger import Ledger
from study.ledger.records import TrialRecord, TrialState
from study.ledger.steering import PROMOTE, RETRY, STOP, USE, describe_stop

LOOK_SECONDS = 1.0  # between two looks


class Nodes(Protocol):
    """Which nodes are excluded: part of `study.execution.node_watch.NodeWatch`."""

    def use_again(self, node: str) -> None: ...


class CommandDesk:
    """Records commands, answers them, and makes the stopping rule and the nodes follow what the records say."""

    def __init__(
        self,
        ledger: Ledger,
        rule: Rule,
        nodes: Nodes,
        update: Callable[[int], None],
        announce: Callable[[str], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`update` gives the observers a trial's new record, `announce` gets a line for each command."""
        self._ledger, self._rule, self._nodes = ledger, rule, nodes
        self._update, self._announce, self._clock = update, announce, clock
        self._next_look = -float("inf")
        remove_old_answers(ledger.folder)

    def look(self) -> None:
        """Carry out the commands that have come since the last look, if that is a while ago."""
        now = self._clock()
        if now >= self._next_look:
            self._next_look = now + LOOK_SECONDS
            for event, who_and_line in take_commands(self._ledger, is_running=True):
                self.follow(event)
                self._announce(who_and_line)

    def find_orders(self, number: int) -> list[tuple[Ruling, str]]:
        """What people have ordered of a trial that has reported, with the reasons, in the order to follow it."""
        steering, epoch = self._ledger.trials.steering, self._ledger.trials[number].epoch
        if (who := steering.stopped.get(number)) is not None:
            return [(Ruling.PRUNE, describe_stop(who, epoch))]
        orders: list[tuple[Ruling, str]] = []
        # The promotion first: else a trial that is paused as well would be left to the stopping rule.
        if (who := steering.promoted.get(number)) is not None:
            orders.append((Ruling.CONTINUE, f"promoted by {who}"))
        if (who := steering.find_pause(number)) is not None:
            orders.append((Ruling.INTERRUPT, f"paused by {who} after epoch {epoch}"))
        return orders

    def follow(self, event: ControlGiven) -> None:
        """Bring the rule, the nodes and the observers to what was recorded."""
        if event.command == USE and event.value is not None:
            self._nodes.use_again(event.value)
        if event.number is None:
            return
        record = self._ledger.trials[event.number]
        if event.command == RETRY:
            self._compare_again(record)
        elif event.command == PROMOTE and record.state is TrialState.WAITING:
            self._rule.override(record.number, ended=False)
        elif event.command == STOP:
            self.settle(record)
        self._update(record.number)

    def settle(self, record: TrialRecord) -> None:
        """Have the rule and the folder follow where an order has ended a trial that does not run."""
        if record.state is TrialState.PRUNED and record.number in self._ledger.trials.steering.stopped:
            self._rule.override(record.number, ended=True)
            tidy_trial(self._ledger, record.number)

    def _compare_again(self, record: TrialRecord) -> None:
        """Give the rule back what a trial had reported before it failed, as if the study had been opened again."""
        metric = self._ledger.study.objective.metric
        for report in record.epochs:
            if metric in report.metrics and record.confirms is None:
                baseline, last = record.baseline is not None, report.epoch == record.planned_epochs
                self._rule.decide(record.number, report.epoch, report.metrics, baseline=baseline, last=last)
                self._rule.override(record.number, ended=False)


def take_commands(ledger: Ledger, is_running: bool) -> list[tuple[ControlGiven, str]]:
    """Record and answer the commands that wait; the events, each with a line that says who gave it.

    A command is answered only when its event is on the disk. One that was recorded before a driver was killed is
    answered again, and not recorded twice.
    """
    taken: list[tuple[ControlGiven, str]] = []
    for id_ in list_commands(ledger.folder):
        try:
            command = read_command(ledger.folder, id_)
        except OSError:  # it is gone, or the storage is away; the next look finds it
            continue
        except Exception:  # JSON that none of ours has, such as a number without end
            command = None
        if command is None:
            answer = CommandAnswer(False, f"the file {id_}.json holds no command; give it with decred-study")
        elif id_ in ledger.trials.steering.applied:
            answer = CommandAnswer(True, f"{command.command} was recorded, before the study's driver was replaced")
        else:
            order = _judge(command, ledger, is_running)
            if isinstance(order, CommandAnswer):
                answer = order
            else:
                ledger.append(order.event)  # a full disk stops the study, and the command waits for the next session
                taken.append((order.event, f"{command.who}: {order.line}"))
                answer = CommandAnswer(True, order.line)
        write_answer(ledger.folder, id_, answer)
    return taken


def _judge(command: Command, ledger: Ledger, is_running: bool) -> Order | CommandAnswer:
    """What a command amounts to, or its refusal. Whatever fails is a refusal: a person's command must not stop a study,
    and one that stays in the folder would stop every later session as well."""
    try:
        order = judge_command(command, ledger, is_running)
        to_line(order.event)  # its text may be none that a file takes
    except UserError as error:
        return CommandAnswer(False, str(error))
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        return CommandAnswer(False, f"{command.command} fails ({reason}); correct that and give it again")
    return order
