"""How long a trial takes, from what it did in this session: the epochs that it had before took no time here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class TrialTime:
    """The seconds that one trial ran in this session, on the caller's clock."""

    epochs_before: int  # that it had reported before this session
    since: float | None = None  # when it started last; None while it does not run
    seconds: float = 0.0  # without those since then
    reported: float = 0.0  # seconds until its last report

    def start(self, now: float) -> None:
        """The trial runs, for the first time or again."""
        self.since = now

    def stop(self, now: float) -> None:
        """The trial runs no more, for a while or for good."""
        self.seconds, self.since = self.measure(now), None

    def note_report(self, now: float, epoch: int) -> None:
        """The trial has reported an epoch."""
        # One that is trained once more took its time here, whenever it was reported first.
        self.epochs_before = min(self.epochs_before, epoch - 1)
        self.reported = self.measure(now)

    def measure(self, now: float) -> float:
        """The seconds that it ran."""
        since = self.since  # once, because the board is drawn in another thread than trials stop in
        return self.seconds + (0.0 if since is None else now - since)

    def find_epoch_seconds(self, epoch: int) -> float | None:
        """What an epoch takes, where `epoch` was reported last; None where none was reported in this session."""
        epochs = epoch - self.epochs_before
        return self.reported / epochs if epochs > 0 else None

    def measure_whole(self, now: float, epoch: int) -> float | None:
        """The seconds that it ran, and what its earlier epochs would have taken here; None where that is not known."""
        if not self.epochs_before:
            return self.measure(now)
        seconds = self.find_epoch_seconds(epoch)
        return None if seconds is None else self.measure(now) + self.epochs_before * seconds
