"""Runs on the head of a cluster as a short job: preflight, whose report is printed as one line of JSON.

`python -m study.remote.preflighting [--storage FOLDER] [--study STUDY.yaml] ...`; the line is read by
`study.remote.preflight`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from cluster.errors import ClusterError
from cluster.preflight.facts import Report
from cluster.preflight.report import format_report
from cluster.preflight.run import run_preflight
from model.errors import UserError


def preflight(arguments: list[str]) -> Report:
    """The report on the cluster that this process runs on."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--storage")
    parser.add_argument("--study", type=Path)
    parser.add_argument("--seconds", type=float, default=120.0)
    for name in ("--package", "--expect", "--skip"):
        parser.add_argument(name, action="append", default=[])
    given = parser.parse_args(arguments)
    check = None
    if given.study is not None:
        from study.config.study_file import read_study
        from study.remote.corpus_check import make_corpus_check

        check = make_corpus_check(read_study(given.study).corpus)
    return run_preflight(given.package, given.storage, check, given.expect, given.skip, given.seconds)


def main(arguments: list[str]) -> int:
    """Print the report, or why there is none."""
    try:
        print(format_report(preflight(arguments)))
    except (ClusterError, UserError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
