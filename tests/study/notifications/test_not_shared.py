"""Who gets a study's messages is in no report and no bundle, which others read."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

from study.config.notify import NotifySettings
from study.execution.bundle import write_bundle
from study.ledger.ledger import Ledger
from study.report.origin import flatten_settings, format_study_file

NOTIFY = NotifySettings(mail="me@example.org", command="/home/me/notify.sh", webhook="https://chat.example.org/hook")


def test_reports_and_bundles_name_no_receiver(old: Ledger, tmp_path: Path, write_study: Callable[..., Path]) -> None:
    for file in old.folder.glob("trials/*/hypotheses/*.jsonl"):
        file.unlink()  # the fixture's have no utterances
    old.study = old.study.model_copy(update={"notify": NOTIFY})
    write_bundle(old, tmp_path / "bundle.zip")
    with zipfile.ZipFile(tmp_path / "bundle.zip") as archive:
        texts = [archive.read(name).decode() for name in archive.namelist()]
    assert any("search:" in text for text in texts), "the study file is there"
    for text in (*texts, format_study_file(old.study), str(flatten_settings(old.study))):
        assert not any(name in text for name in ("me@example.org", "notify.sh", "chat.example.org"))
