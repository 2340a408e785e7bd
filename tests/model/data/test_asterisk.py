"""The telephone prompts as a table."""

from __future__ import annotations

from pathlib import Path

from model.data.asterisk import format_prompt_rows


def test_digits_are_spelt_out_and_what_was_spoken_in_an_unknown_way_or_not_recorded_is_skipped(tmp_path: Path) -> None:
    for name in ("beep", "digits/1", "vm-press", "x", "star"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.wav").touch()
    lines = ["; Core Sounds", "", "beep: [a beep]", "digits/1: 1", "vm-press: Press 1:  now", "x: dial 323", "no colon"]
    assert list(format_prompt_rows([*lines, "star: press *", "absent: gone"], tmp_path)) == [
        "audio\ttext\tspeaker\tset",
        f"{tmp_path}/digits/1.wav\tone\tallison\ttrain",
        f"{tmp_path}/vm-press.wav\tPress one: now\tallison\ttrain",
    ]
