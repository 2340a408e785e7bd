"""The game's dialogues as a table."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.data import fillets
from model.data.fillets import format_dialogue_rows

SCRIPT = """
dialogId("ship-m", "font_small", "What a \\"strange\\" ship.")
dialogStr("Wat een  vreemd schip.")

dialogId("ship-v", "font_big", "Pier 5.")
dialogStr("Steiger 5.")
dialogId("silent", "font_big", "Nobody speaks this.")
dialogStr("Dit spreekt niemand.")
dialogId("ship-v2", "font_big",
         "Yes.")
dialogStr("Ja.")
"""


def test_recorded_lines_have_their_text_and_who_speaks_and_others_are_skipped(tmp_path: Path) -> None:
    (tmp_path / "script" / "city").mkdir(parents=True)
    (tmp_path / "script" / "city" / "dialogs_nl.lua").write_text(SCRIPT)
    sounds = tmp_path / "sound" / "city" / "nl"
    sounds.mkdir(parents=True)
    for name in ("ship-m", "ship-v", "ship-v2"):
        (sounds / f"{name}.ogg").touch()
    assert list(format_dialogue_rows(tmp_path)) == [
        "audio\ttext\tspeaker\tset",
        f"{sounds}/ship-m.ogg\tWat een vreemd schip.\tsmall\ttrain",
        f"{sounds}/ship-v2.ogg\tJa.\tbig\ttrain",
    ]


def test_where_the_game_is_missing_the_command_names_its_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fillets, "GAME", tmp_path)
    with pytest.raises(SystemExit, match="run: apt-get install fillets-ng-data fillets-ng-data-nl"):
        fillets.main()
