"""The events of nodes: what became of them, and of the trials that had to leave them."""

from __future__ import annotations

from typing import Literal

from study.ledger.event_parts import Event


class NodeExcluded(Event):
    """Trials are not placed on a node until `until`: they failed there, and got further on another one.

    Later sessions, which Slurm or Kubernetes may start while nobody looks, keep away from it for that long as well, or
    until a person has it used again.
    """

    kind: Literal["node_excluded"] = "node_excluded"
    node: str  # its host
    node_id: str  # of Ray
    reason: str
    until: float | None = None  # Unix seconds; null in earlier versions, whose next session used it again


class TrialMoved(Event):
    """A trial left a node that Ray drains, with a checkpoint, and continues elsewhere; that is no failure or retry."""

    kind: Literal["trial_moved"] = "trial_moved"
    number: int
    reason: str  # how the node's end was announced, and after which step the trial left
    node: str | None = None  # its host
    node_id: str | None = None  # of Ray
