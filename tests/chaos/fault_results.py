"""What became of each seed, kept by the content of the code, so that seeds that passed are not run again.

`PYTHONPATH=.:tests python -m chaos.fault_results` prints what was tried, how often, and what was lost.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from pathlib import Path

from model.strict import write_atomically

SEEDS = "CHAOS_SEEDS"  # an environment variable that `make chaos-random` sets
ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "build" / "chaos-random"
# With the stand-in for training, the server and the disk that all tests share.
_CODE = ("model/**/*.py", "study/**/*.py", "cluster/**/*.py", "tests/chaos/*.py", "tests/*.py")


@dataclass(frozen=True)
class Tally:
    """What was done to the study of a seed, and to the shorter lists of one that failed, and what was checked."""

    struck: tuple[str, ...] = ()  # the kinds of the faults that struck something
    missed: tuple[str, ...] = ()  # of those that found nothing to strike
    pruned: tuple[str, ...] = ()  # the rule that stopped a trial, for each one
    sessions: int = 0
    processes: int = 0  # that ran the study, those that were refused included
    orders: int = 0  # commands of people that steer
    answered: int = 0  # of them, those that were carried out at once
    ended: int = 0  # trials whose end was checked
    lost: int = 0  # of them, those that were gone or changed, or ended twice

    def __add__(self, other: Tally) -> Tally:
        return Tally(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(Tally)))


@dataclass(frozen=True)
class SeedResult:
    """`faults`: the list that was drawn, and of a failed seed the shortest one found that fails. `failures`: how often
    the seed has failed with the same code before."""

    seed: int
    passed: bool
    faults: str
    seconds: float
    error: str = ""
    tally: Tally = Tally()
    failures: int = 0

    @classmethod
    def read(cls, path: Path) -> SeedResult:
        content = json.loads(path.read_text())
        tally = {name: tuple(value) if isinstance(value, list) else value for name, value in content["tally"].items()}
        return cls(**content | {"tally": Tally(**tally)})


@cache
def hash_code() -> str:
    """Of all sources that a seed runs: 12 hex digits."""
    digest = hashlib.sha256()
    for path in sorted(path for pattern in _CODE for path in ROOT.glob(pattern)):
        digest.update(str(path.relative_to(ROOT)).encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def keep_result(result: SeedResult) -> None:
    """Write the result of a seed for the code of now, with the number of earlier ones that were no success."""
    if (before := read_results().get(result.seed)) is not None:
        result = replace(result, failures=before.failures + (not before.passed))
    write_atomically(_file_of(result.seed), json.dumps(asdict(result)) + "\n")


def read_results() -> dict[int, SeedResult]:
    """The results of the code of now, by their seed."""
    results = [SeedResult.read(path) for path in (RESULTS / hash_code()).glob("*.json")]
    return {result.seed: result for result in sorted(results, key=lambda result: result.seed)}


def choose_seeds(seeds: Sequence[int]) -> list[int]:
    """Those that have not passed with the code of now."""
    results = read_results()
    return [seed for seed in seeds if seed not in results or not results[seed].passed]


@contextlib.contextmanager
def claim_seed(seed: int) -> Iterator[bool]:
    """Whether this process is to run the seed: no other does so now, nor has it passed since the seeds were chosen."""
    path = _file_of(seed).with_suffix(".lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield bool(choose_seeds([seed]))


def summarise(results: dict[int, SeedResult]) -> list[str]:
    """A line on all seeds, one for each that failed, and what was tried in all of them."""
    counts = Counter(result.passed for result in results.values())
    seconds = sum(result.seconds for result in results.values())
    lines = [f"{len(results)} seeds in {seconds / 60:.0f} minutes: {counts[True]} passed, {counts[False]} failed"]
    failed = [result for result in results.values() if not result.passed]
    lines += [f"seed {result.seed}: {result.faults}: {result.error.splitlines()[0]}" for result in failed]
    again = [result for result in results.values() if result.passed and result.failures]
    lines += [f"seed {result.seed} passed after {result.failures} failures" for result in again]
    tally = sum((result.tally for result in results.values()), Tally())
    lines.append(
        f"{len(tally.struck)} faults struck, {len(tally.missed)} found nothing to strike, and people gave "
        f"{tally.orders} commands, of which {tally.answered} were carried out at once; {tally.sessions} sessions, for "
        f"which {tally.processes} processes were started; {tally.ended} trials ended, {tally.lost} of them lost or "
        "doubled"
    )
    rules = [f"{count} by {rule}" for rule, count in sorted(Counter(tally.pruned).items())]
    lines.append(f"trials stopped early: {', '.join(rules) or 'none'}")
    kinds = sorted(Counter(tally.struck).items(), key=lambda kind: (-kind[1], kind[0]))
    return [*lines, *(f"  {name:<20} {count:4}" for name, count in kinds)]


def _file_of(seed: int) -> Path:
    return RESULTS / hash_code() / f"seed-{seed:04d}.json"


if __name__ == "__main__":
    print("\n".join(summarise(read_results())))
