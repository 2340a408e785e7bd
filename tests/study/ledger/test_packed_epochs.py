"""Packed reports are as good as the tuple of reports that they were made of."""

from __future__ import annotations

import math
import pickle
from array import array

from hypothesis import given
from hypothesis import strategies as st

from study.ledger.epochs import EpochReport, Seconds, TrialEpoch
from study.ledger.packed_epochs import PackedReports, Packer, Unpacker
from study.ledger.records import TrialRecord

NAMES = ["dev/wer", "train/loss", "dev/ctc_wer"]
SECONDS = st.builds(Seconds, training=st.none() | st.just(2.5), decoding=st.none() | st.just(0.0))
METRICS = st.dictionaries(st.sampled_from(NAMES), st.floats(allow_infinity=False), max_size=3)
HOSTS = st.none() | st.sampled_from(["one", "two"])
STEPS = st.none() | st.integers(0, 2**50)
KINDS = st.sampled_from([EpochReport, TrialEpoch])


@st.composite
def trials(draw: st.DrawFn) -> tuple[EpochReport, ...]:
    """The reports of trial 7, epochs ascending."""
    kind = draw(KINDS)
    fields = {} if kind is EpochReport else {"number": 7}
    return tuple(
        kind(
            time=draw(st.floats(0, 9e9)),
            epoch=epoch,
            step=draw(STEPS),
            metrics=draw(METRICS),
            seconds=draw(SECONDS),
            node=draw(HOSTS),
            device=draw(HOSTS),
            **fields,
        )
        for epoch in range(1, draw(st.integers(1, 6)))
    )


def pack(*reports: tuple[EpochReport, ...]) -> list[object]:
    packer = Packer()
    packed = [packer.pack(one) for one in reports]
    unpacker = Unpacker(array("d", packer.figures), packer.names)
    return [unpacker.unpack(7, one) for one in packed]


@given(before=trials(), reports=trials())
def test_they_are_those_that_were_packed(before: tuple[EpochReport, ...], reports: tuple[EpochReport, ...]) -> None:
    _, packed = pack(before, reports)
    assert packed == reports
    assert reports == packed
    record, plain = TrialRecord(7, epochs=packed), TrialRecord(7, epochs=reports)  # type: ignore[arg-type]
    assert record == plain
    assert [type(report) for report in record.epochs] == [type(report) for report in reports]
    assert repr(record) == repr(plain)


@given(reports=trials())
def test_whatever_is_asked_of_them_first_is_answered_as_by_the_tuple(reports: tuple[EpochReport, ...]) -> None:
    plain = TrialRecord(7, epochs=reports)
    for ask in (
        lambda record: record.epoch,
        lambda record: [record.curve(name) for name in (*NAMES, "test/wer")],
        lambda record: record.reports,
        lambda record: (len(record.epochs), bool(record.epochs)),
        lambda record: record.epochs[-1:] + record.epochs[:1],
        lambda record: record.epochs[-1] if record.epochs else None,
        lambda record: [report.epoch for report in record.epochs],
    ):
        (packed,) = pack(reports)
        assert ask(TrialRecord(7, epochs=packed)) == ask(plain)  # type: ignore[arg-type]


def test_one_trial_is_pickled_without_the_figures_of_all_others() -> None:
    long = tuple(TrialEpoch(time=1.0, number=7, epoch=at, metrics={"dev/wer": math.nan}) for at in range(1, 1000))
    _, packed = pack(long, long[:2])
    assert isinstance(packed, PackedReports)
    content = pickle.dumps(packed)
    assert len(content) < 2000
    assert pickle.loads(content) == long[:2]
