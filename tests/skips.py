"""In continuous integration (CI=true) a skipped test fails, unless the reason of its skip is on the list below.

Without this, a missing dependency or a mistyped condition would turn tests off without notice.
"""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest

# The first words of the reasons that are accepted in continuous integration, because its machines may differ.
ALLOWED_IN_CI = (
    "root writes everywhere",  # continuous integration may run as root
    "NOT TESTED: a full disk, because no tmpfs can be mounted here",  # or in a container that may not mount
    "this processor has no bf16 units",
    "NOT TESTED: NIST's alignments are not in ../shared/sctk",  # a checkout elsewhere
    "NOT TESTED: KubeRay's schemas are not in ../shared/kuberay",
    "NOT TESTED: the images, because no overlay can be mounted here",
    "NOT TESTED: namespaces cannot be made here",
    "NOT TESTED: no GPU here",
    "NOT TESTED: a power cut, because no ext4 can be mounted here",
)
# Reasons that are allowed where .ci/run could not install Debian's packages, and sets the variable for that.
ALLOWED_WITHOUT_PACKAGES = (
    "NOT TESTED: no PostgreSQL here",
    "the recorded prompts are not installed",
    "NIST's sc_stats is not installed",
    "NOT TESTED: the images, because Debian's packages cannot be installed here",
    "NOT TESTED: Slurm is not installed",
    "NOT TESTED: shellcheck is not installed",
    "NOT TESTED: Chromium is not installed",
    "NOT TESTED: sshd is not installed",
)
WITHOUT_PACKAGES = "CI_WITHOUT_PACKAGES"


def is_allowed(reason: str) -> bool:
    """Whether continuous integration accepts a skip with this reason."""
    allowed = ALLOWED_IN_CI + (ALLOWED_WITHOUT_PACKAGES if os.environ.get(WITHOUT_PACKAGES) else ())
    return reason.removeprefix("Skipped: ").startswith(allowed)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn the skip of a test into a failure unless it is allowed."""
    report = yield
    _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a whole module that skips itself."""
    report = yield
    _refuse_skip(report)
    return report


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if os.environ.get("CI") != "true" or not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if not is_allowed(reason):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI, and tests/skips.py does not allow this reason: {reason}"
