from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from waiting import wait_for

from model.corpora.corpus import Corpus
from model.data import reading
from model.data.batches import Batch, TrainingSet
from model.data.reading import Share, TrainingData, open_training_set, read_ahead, read_shares
from model.data.recipe_inputs import ensure_tokenizer
from model.errors import ReadersLostError, UserError
from model.runtime.child_processes import dump_children
from model.runtime.stacks import dump_stacks, find_place

WAVEFORMS = {"augmentation.noise_share": 0.7, "augmentation.reverberation_share": 0.7, "augmentation.time_masks": 1}


@pytest.fixture(scope="module", autouse=True)
def end_readers() -> Iterator[None]:
    """Processes that read end with the module."""
    yield
    reading._make_loader.cache_clear()


@pytest.fixture
def make_data(corpus: Corpus, make_recipe):
    def make(values: dict | None = None) -> TrainingData:
        recipe = make_recipe(values)
        tokenizer = ensure_tokenizer(recipe, corpus)
        return TrainingData(str(corpus.folder), str(tokenizer), recipe.data, recipe.augmentation, 1.0)

    return make


def list_shares(data: TrainingData, training_set: TrainingSet, parts: int = 2) -> list[Share]:
    return [Share(data, rows, 0, 2, parts, "0/0") for rows in training_set.plan_pass(0)]


def assert_same(ours: list[list[Batch]], theirs: list[list[Batch]]) -> None:
    assert len(ours) == len(theirs) > 2
    for one, other in zip(ours, theirs, strict=True):
        assert [part.ids for part in one] == [part.ids for part in other]
        for part, like in zip(one, other, strict=True):
            assert torch.equal(part.features, like.features)
            assert torch.equal(part.labels, like.labels)
            assert part.counts == like.counts


@pytest.mark.parametrize("values", [{}, WAVEFORMS])
def test_a_thread_and_processes_read_the_same_batches_in_the_order_of_the_plan(make_data, values: dict) -> None:
    data = make_data(values | {"data.readers": 0})
    training_set = open_training_set(data)
    expected = [reading.load_share(training_set, share) for share in list_shares(data, training_set)]
    assert_same(list(read_shares(training_set, list_shares(data, training_set))), expected)
    others = make_data(values | {"data.readers": 2})
    assert_same(list(read_shares(training_set, list_shares(others, training_set))), expected)


def test_processes_stay_for_the_next_epoch_and_the_next_training(make_data) -> None:
    first, second = make_data({"data.readers": 2}), make_data({"data.readers": 2} | WAVEFORMS)
    for data in (first, second):
        training_set = open_training_set(data)
        shares = list_shares(data, training_set)
        with contextlib.closing(read_shares(training_set, shares)) as read:
            next(read)  # an epoch that ends with an error leaves the rest
        assert len(list(read_shares(training_set, shares))) == len(shares)
    loader, _ = reading._make_loader(2)
    assert len({worker.pid for worker in loader._iterator._workers}) == 2
    assert reading._make_loader.cache_info().currsize == 1


def list_readers() -> list[int]:
    loader, _ = reading._make_loader(2)
    return [worker.pid for worker in loader._iterator._workers]


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not is_alive(pid))


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_reader_that_is_killed_in_an_epoch_or_between_two_is_replaced_and_no_share_is_missing(
    make_data, caplog: pytest.LogCaptureFixture
) -> None:
    data = make_data({"data.readers": 2} | WAVEFORMS)
    training_set = open_training_set(data)
    shares = 2 * list_shares(data, training_set)
    expected = [reading.load_share(training_set, share) for share in shares]
    read = read_shares(training_set, shares)
    batches = [next(read)]
    first = list_readers()
    kill(first[0])
    batches += read
    assert_same(batches, expected)
    wait_for(lambda: not any(is_alive(pid) for pid in first))  # the other one ends, since its place is taken too
    second = list_readers()
    kill(second[1])
    assert_same(list(read_shares(training_set, shares)), expected)
    assert not {*first, *second} & {*list_readers()}
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    assert all(line.startswith("a process that reads data was lost, perhaps for want of memory (") for line in lines)


class Losing:
    """In place of a loader, which loses a process after so many shares."""

    def __init__(self, queue: reading._Queue, shares: int, error: Exception) -> None:
        self.queue, self.shares, self.error = queue, shares, error

    def __iter__(self) -> Iterator[list]:
        yield from ([share] for share in self.queue.shares[: self.shares])
        raise self.error


@pytest.fixture
def lose(monkeypatch: pytest.MonkeyPatch):
    """Have each loader that is made next lose a process after so many shares."""

    def begin(error: Exception, *counts: int) -> list[int]:
        left = list(counts)

        def make(readers: int) -> tuple[Losing, reading._Queue]:
            queue = reading._Queue()
            return Losing(queue, left.pop(0), error), queue

        monkeypatch.setattr(reading, "_make_loader", functools.lru_cache(1)(make))
        return left

    return begin


LOST = RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly")


@pytest.mark.parametrize("error", [LOST, ConnectionResetError(104, "Connection reset by peer"), EOFError()])
def test_readers_that_are_lost_three_times_without_a_share_in_between_are_an_error_and_the_next_reading_has_new_ones(
    make_data, lose, error: Exception
) -> None:
    data = make_data({"data.readers": 2})
    shares = list_shares(data, open_training_set(data))
    left = lose(error, 1, 0, 1, 0, 0, len(shares))
    read, loaded = read_shares(None, shares), []
    with pytest.raises(ReadersLostError, match=r"^processes that read data were lost 3 times in a row, perhaps for "):
        loaded += read  # what was loaded until then stays in the list
    assert loaded == [[share] for share in shares[:2]]
    assert left == [len(shares)]
    read = read_shares(None, shares)
    assert [next(read) for _ in shares] == [[share] for share in shares]


def test_an_error_of_the_loader_that_is_no_loss_is_raised_as_it_is(make_data, lose) -> None:
    data = make_data({"data.readers": 2})
    error = RuntimeError("Caught AcceleratorError in pin memory thread for device 0: out of memory")
    left = lose(error, 1, 1)
    read = read_shares(None, list_shares(data, open_training_set(data)))
    next(read)
    with pytest.raises(RuntimeError) as raised:
        next(read)
    assert raised.value is error
    assert left == [1], "no other loader was made"


def test_waveforms_need_no_cached_features(make_data, corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments) -> None:
        raise AssertionError("features are computed")

    monkeypatch.setattr("model.data.utterances.compute_features", refuse)
    training_set = open_training_set(make_data(WAVEFORMS))
    rows = training_set.plan_pass(0)[0]
    (part,) = training_set.load_share(rows, 0, 1, 1, "0/0")
    assert part.lengths.tolist() == training_set.utterances.frames[rows].tolist()
    assert part.features.isfinite().all()
    with pytest.raises(AssertionError, match="features are computed"):
        open_training_set(make_data())


def test_how_many_processes_read_is_the_recipes_or_follows_from_what_is_read(make_data) -> None:
    assert make_data().readers == 0
    assert make_data(WAVEFORMS).readers == reading.READERS
    assert make_data(WAVEFORMS | {"data.readers": 0}).readers == 0
    assert make_data({"data.readers": 3}).readers == 3


@pytest.mark.parametrize("readers", [0, 2])
def test_an_error_is_raised_at_the_share_that_it_is_of(make_data, readers: int) -> None:
    data = make_data({"data.readers": readers})
    training_set = open_training_set(data)
    good = list_shares(data, training_set)[:3]
    bad = Share(data, good[0].rows + 10_000, 0, 1, 1, "0/0")
    read = read_shares(training_set, [*good, bad, *good])
    for _ in good:
        next(read)
    with pytest.raises(IndexError):
        next(read)


def test_so_many_items_are_read_ahead_and_no_more() -> None:
    loaded: list[int] = []
    read = read_ahead(lambda item: loaded.append(item) or item, range(10), ahead=2)
    assert next(read) == 0
    assert max(loaded) <= 3
    assert next(read) == 1
    before = threading.active_count()
    read.close()
    assert threading.active_count() == before - 1, "the thread ends with the generator"
    assert max(loaded) < 6


def test_a_corpus_that_is_gone_is_named_by_the_readers(make_data, tmp_path) -> None:
    data = make_data({"data.readers": 2})
    training_set = open_training_set(data)
    (share, *_) = list_shares(data, training_set)
    elsewhere = TrainingData(str(tmp_path / "gone"), data.tokenizer, data.data, data.augmentation, 1.0)
    gone = Share(elsewhere, share.rows, 0, 1, 1, "0/0")
    with pytest.raises(UserError, match=r"^corpus .*gone: no such folder; make one with .*$"):
        list(read_shares(training_set, [gone]))


def test_a_reader_whose_file_never_answers_is_named_while_the_training_waits_for_it(make_data, tmp_path: Path) -> None:
    data, pipe = make_data({"data.readers": 2}), tmp_path / "tokenizer.model"
    os.mkfifo(pipe)
    writer = os.open(pipe, os.O_RDWR)
    training_set, errors = open_training_set(data), list[Exception]()
    shares = list_shares(dataclasses.replace(data, tokenizer=str(pipe)), training_set)

    def train() -> None:
        try:
            list(read_shares(training_set, shares))
        except (UserError, RuntimeError) as error:
            errors.append(error)

    trains = threading.Thread(target=train, daemon=True)
    trains.start()
    deadline, place = time.monotonic() + 60.0, ""
    while "called at model/data/tokenizer.py:" not in place:
        assert time.monotonic() < deadline, place
        place = find_place(dump_stacks(trains.ident) + dump_children(os.getpid())) or ""
    assert ", in its process " in place
    shutil.copyfile(data.tokenizer, tmp_path / "tokenizer")
    os.replace(tmp_path / "tokenizer", pipe)
    os.close(writer)
    trains.join(60.0)
    assert len(errors) == 1, "what was read of it is no tokenizer"
