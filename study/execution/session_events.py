"""The events that a session writes of its trials, made from what these report."""

from __future__ import annotations

from collections.abc import Mapping

from study.execution.decisions import Action, Decision
from study.ledger.events import (
    NodeExcluded,
    Seconds,
    TrialDecoded,
    TrialEnded,
    TrialEpoch,
    TrialMoved,
    TrialRetried,
    TrialState,
)
from study.ledger.records import TrialRecord
from study.search.proposal import InfeasiblePoint
from study.workers.failure import Failure, FailureKind
from study.workers.messages import Report

OF_TEST_SETS = ("test/", "in_domain/", "out_of_domain/")
NOT_METRICS = ("epoch", "step", "last_epoch", "finished")


def make_epoch(number: int, report: Report) -> TrialEpoch:
    """The event of a reported epoch."""
    metrics, step = report.metrics, report.metrics.get("step")
    return TrialEpoch(
        number=number,
        epoch=int(metrics["epoch"]),
        step=None if step is None else int(step),
        metrics=without_facts(metrics),
        seconds=Seconds(
            training=metrics.get("train/seconds"), validation=metrics.get("dev/seconds"), waiting=report.waited
        ),
        node=report.node,
        device=report.device,
    )


def make_retry(
    number: int, decision: Decision, failure: Failure, lost_seconds: float | None
) -> TrialRetried | TrialMoved:
    """The event of a trial that continues, on the same nodes or elsewhere."""
    if failure.kind is FailureKind.PREEMPTED:
        return TrialMoved(number=number, reason=failure.reason, node=failure.node, node_id=failure.node_id)
    elsewhere = decision.action is Action.MOVE
    in_more_parts = failure.kind is FailureKind.SPLIT
    if in_more_parts:
        reason = decision.reason
    elif not elsewhere:
        reason = f"{decision.reason}; retry {decision.count} ({decision.setting})"
    elif failure.lacks_room:
        reason = f"{decision.reason}; tried again later"
    else:
        reason = f"{decision.reason} (node {failure.node}); tried again on another node"
    return TrialRetried(
        number=number,
        reason=reason,
        count=decision.count,
        setting=decision.setting,
        lost_seconds=lost_seconds,
        elsewhere=elsewhere,
        in_more_parts=in_more_parts,
        node=failure.node,
        node_id=failure.node_id,
    )


def make_end(
    number: int,
    state: TrialState,
    reason: str | None,
    metrics: dict[str, float],
    decision: Decision | None,
    failure: Failure | None,
    lost_seconds: float | None,
) -> TrialEnded:
    """The event of a trial's end or interruption; `decision` is what followed from a `failure`."""
    governed = decision is not None and decision.setting != ""
    return TrialEnded(
        number=number,
        state=state,
        reason=reason,
        metrics=metrics,
        count=decision.count if decision and governed else None,
        setting=decision.setting if decision and governed else None,
        lost_seconds=lost_seconds,
        node=failure.node if failure else None,
        node_id=failure.node_id if failure else None,
    )


def describe_exclusion(event: NodeExcluded) -> str:
    """The line that announces that a node is excluded."""
    host = event.node.split()[0]
    return (
        f"node {event.node} is excluded: {event.reason}. Sessions keep away from it for a day, while others have room; "
        f"once it is corrected: decred-study node STUDY {host} use"
    )


def describe_halt(decision: Decision) -> str:
    """Why the study stops after a trial's failure."""
    if not decision.setting:
        return decision.reason
    return f"{decision.count} trials in a row failed with {decision.reason} ({decision.setting})"


def make_infeasible(point: InfeasiblePoint) -> TrialEnded:
    """The event of a point that makes no recipe: an end without a start."""
    return TrialEnded(
        number=point.number,
        state=TrialState.INFEASIBLE,
        reason=point.reason,
        values=point.values,
        point=point.point,
        recipe_class=point.recipe_class,
    )


def make_tests(record: TrialRecord, decoding: dict[str, object], metrics: Mapping[str, float]) -> TrialDecoded:
    """The event of test sets that were scored after a trial's end."""
    return TrialDecoded(
        number=record.number,
        decoding=decoding,
        decoding_hash=record.decoding_hash,
        metrics={name: value for name, value in metrics.items() if name.startswith(OF_TEST_SETS)},
        seconds=metrics.get("decoding/seconds"),
    )


def without_facts(metrics: Mapping[str, float]) -> dict[str, float]:
    """Metrics without what a report says beside them."""
    return {name: value for name, value in metrics.items() if name not in NOT_METRICS}
