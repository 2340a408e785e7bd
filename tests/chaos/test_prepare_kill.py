"""Preparations that are killed, stopped or started twice: the same command goes on, and nothing is lost or left."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
from chaos.preparing import (
    PARTS,
    list_done,
    list_drafts,
    read_files,
    start_preparation,
    wait_for_orphans,
    write_talk,
)
from chaos.study_process import CommandProcess, send_stop_signal, wait_until

from model.corpora.corpus import read_corpus

KILLS = 10
chaos = pytest.mark.chaos
OUT = Path("out")
STOPS = [  # the signal, whether all processes get it, and when: so long after the beginning, or amid the parts
    (signal.SIGINT, True, 0.0),
    (signal.SIGINT, True, 1.0),
    (signal.SIGINT, True, None),
    (signal.SIGINT, False, None),
    (signal.SIGTERM, True, 1.0),
    (signal.SIGTERM, True, None),
    (signal.SIGTERM, False, None),
]
STOPPED = "stopped; start the same command again, and it goes on where it was\n"


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_talk(tmp_path_factory.mktemp("talk") / "source")


@pytest.fixture(scope="module")
def whole(table: Path) -> Path:
    """The corpus that an undisturbed preparation makes."""
    out = table.parents[1] / "whole"
    with contextlib.chdir(out.parent), start_preparation(table, out) as run:
        assert run.wait_for_end() == 0, run.output
        wait_for_orphans(run)
    return out


@pytest.fixture(autouse=True)
def _in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def assert_made(out: Path, whole: Path) -> None:
    assert read_corpus(out).fingerprint == read_corpus(whole).fingerprint
    assert read_files(out) == read_files(whole)
    assert list_drafts(out) == []


def wait_for_parts(run: CommandProcess, count: int) -> None:
    wait_until(lambda: len(list_done(OUT)) >= count, run, f"it never had {count} parts")


def kill_group(run: CommandProcess) -> None:
    """kill -9 of all its processes at once."""
    run.list_processes()
    os.killpg(run.process.pid, signal.SIGKILL)
    run.process.wait()


@chaos
def test_kills_at_random_moments_change_nothing_and_nothing_is_done_twice(table: Path, whole: Path) -> None:
    chance, done, kills, ends = random.Random(11), {}, 0, 0
    with contextlib.ExitStack() as stack:
        runs: list[CommandProcess] = []
        while kills < KILLS:
            runs.append(stack.enter_context(start_preparation(table, OUT)))
            if _wait_for_random_moment(runs[-1], kills, chance):
                kill_group(runs[-1]) if kills % 2 else runs[-1].kill()
                kills += 1
                if chance.random() < 0.5:  # otherwise the next one starts while workers of this one may still run
                    wait_for_orphans(runs[-1])
            if runs[-1].process.wait() == 0:
                assert_made(OUT, whole)
            if OUT.exists():  # perhaps it was killed when this was all but said
                assert read_corpus(OUT).fingerprint == read_corpus(whole).fingerprint
                shutil.rmtree(OUT)
                done, ends = {}, ends + 1
            before, done = done, list_done(OUT)
            assert done | before == done, "a part was lost, or done again"
            print(f"{kills} kills, {ends} corpora, {len(before)} parts before and {len(done)} after the last kill")
        wait_for_orphans(*runs)
        with start_preparation(table, OUT) as run:
            assert run.wait_for_end() == 0, run.output
            assert run.output == f"corpus in {OUT.resolve()}: train 1792, dev 256 utterances\n"
            wait_for_orphans(run)
    assert_made(OUT, whole)


def _wait_for_random_moment(run: CommandProcess, kill: int, chance: random.Random) -> bool:
    """Of three kills one comes while it starts, one amid the parts, one after them. False where it ended before."""
    before = len(list_done(OUT))
    wait = {0: 0, 1: min(before + 1, PARTS), 2: PARTS}[kill % 3]
    with contextlib.suppress(AssertionError):
        wait_for_parts(run, wait)
    with contextlib.suppress(Exception):
        run.process.wait(chance.uniform(0.0, 6.0 if kill % 3 == 0 else 1.0))
    return run.process.poll() is None


@chaos
@pytest.mark.parametrize(("kind", "to_all", "seconds"), STOPS)
def test_ctrl_c_and_sigterm_are_one_line_and_the_same_command_goes_on(
    kind: signal.Signals, to_all: bool, seconds: float | None, table: Path, whole: Path
) -> None:
    with start_preparation(table, OUT) as run:
        if seconds is None:
            wait_for_parts(run, 2)
        else:  # after it began, while its processes start
            wait_until(lambda: Path(".out.draft.lock").exists(), run, "it never began")
            time.sleep(seconds)
        send_stop_signal(run, kind) if to_all else run.process.send_signal(kind)
        assert (run.wait_for_end(), run.output) == (130, STOPPED)
        wait_for_orphans(run)
    assert not OUT.exists()
    done = list_done(OUT)
    assert len(done) >= 2 or seconds is not None
    with start_preparation(table, OUT) as run:
        wait_until(lambda: len(list_done(OUT)) > len(done), run, "it does not go on")
        now = list_done(OUT)
        assert now | done == now
        assert run.wait_for_end() == 0, run.output
    assert_made(OUT, whole)


@chaos
def test_a_worker_that_is_killed_is_one_line_and_the_same_command_goes_on(table: Path, whole: Path) -> None:
    with start_preparation(table, OUT) as run:
        wait_for_parts(run, 1)
        workers = sorted(run.list_processes("forkserver"), key=lambda process: process.pid)
        workers[-1].kill()  # the first is the server that forked the others
        assert run.wait_for_end() == 2
        words = "error: a process that did a part of the work was killed, perhaps for want of memory; start the same"
        assert run.output.startswith(words)
        assert run.output.count("\n") == 1
        wait_for_orphans(run)
    done = list_done(OUT)
    with start_preparation(table, OUT) as run:
        assert run.wait_for_end() == 0, run.output
    assert done
    assert_made(OUT, whole)


@chaos
def test_of_two_preparations_at_the_same_time_the_second_is_refused_and_the_first_undisturbed(
    table: Path, whole: Path
) -> None:
    refused = "error: corpus out: is being prepared by another process; wait for it, or give another --out\n"
    with start_preparation(table, OUT) as first:
        wait_until(lambda: Path(".out.draft.lock").exists(), first, "it never began")
        for options in ((), ("--set", "train=none")):  # of several parts, and of one
            with start_preparation(table, OUT, *options) as second:
                assert (second.wait_for_end(), second.output) == (2, refused)
        assert first.wait_for_end() == 0, first.output
    assert_made(OUT, whole)


@chaos
def test_two_small_preparations_at_the_same_time_are_one_corpus(tmp_path: Path) -> None:
    table = write_talk(tmp_path / "small", parts=1)
    with start_preparation(table, OUT) as first:
        wait_until(lambda: Path(".out.draft").exists(), first, "it never began")
        with start_preparation(table, OUT) as second:
            assert second.wait_for_end() in (0, 2), second.output
            assert second.output.count("\n") == 1
        assert first.wait_for_end() == 0, first.output
    with start_preparation(table, Path("again")) as run:
        assert run.wait_for_end() == 0, run.output
    assert_made(OUT, Path("again"))
