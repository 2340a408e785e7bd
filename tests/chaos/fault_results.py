"""What became of each seed, kept by the content of the code, so that seeds that passed are not run again."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from model.strict import write_atomically

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "build" / "chaos-random"
_CODE = ("model", "study", "cluster", "tests/chaos")


@dataclass(frozen=True)
class SeedResult:
    """`faults`: the list that struck, and of a failed seed the shortest one found that fails."""

    seed: int
    passed: bool
    faults: str
    seconds: float
    error: str = ""


@cache
def hash_code() -> str:
    """Of all sources that a seed runs: 12 hex digits."""
    digest = hashlib.sha256()
    for path in sorted(path for folder in _CODE for path in (ROOT / folder).rglob("*.py")):
        digest.update(str(path.relative_to(ROOT)).encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def keep_result(result: SeedResult) -> None:
    """Write the result of a seed for the code of now."""
    write_atomically(_file_of(result.seed), json.dumps(asdict(result)) + "\n")


def read_results() -> dict[int, SeedResult]:
    """The results of the code of now, by their seed."""
    results = [SeedResult(**json.loads(path.read_text())) for path in (RESULTS / hash_code()).glob("*.json")]
    return {result.seed: result for result in sorted(results, key=lambda result: result.seed)}


def choose_seeds(seeds: Sequence[int]) -> list[int]:
    """Those that have not passed with the code of now."""
    results = read_results()
    return [seed for seed in seeds if seed not in results or not results[seed].passed]


def summarise(results: dict[int, SeedResult]) -> list[str]:
    """A line on all seeds, and one for each that failed."""
    counts = Counter(result.passed for result in results.values())
    seconds = sum(result.seconds for result in results.values())
    lines = [f"{len(results)} seeds in {seconds / 60:.0f} minutes: {counts[True]} passed, {counts[False]} failed"]
    failed = [result for result in results.values() if not result.passed]
    return lines + [f"seed {result.seed}: {result.faults}: {result.error.splitlines()[0]}" for result in failed]


def _file_of(seed: int) -> Path:
    return RESULTS / hash_code() / f"seed-{seed:04d}.json"
