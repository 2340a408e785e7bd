"""Pack studies that ran to their end into one file, which `decred-study replay` reads.

python tests/benchmarks/pack_record.py OUT.jsonl.gz STUDY_FOLDER...
"""

from __future__ import annotations

import sys
from pathlib import Path

from study.ledger.ledger import Ledger
from study.replay.recorded import write_packed

MOST_BYTES = 2_000_000  # of a file that is kept in the repository


def main(arguments: list[str]) -> None:
    """Write the file and print how much it holds."""
    if len(arguments) < 2:
        sys.exit(__doc__)
    out, *folders = map(Path, arguments)
    trainings = write_packed(out, [Ledger.open(folder) for folder in folders])
    size = out.stat().st_size
    print(f"{out}: {trainings} trainings, {size / 1e6:.2f} MB")
    if size > MOST_BYTES:
        sys.exit(f"that is more than {MOST_BYTES / 1e6:.0f} MB")


if __name__ == "__main__":
    main(sys.argv[1:])
