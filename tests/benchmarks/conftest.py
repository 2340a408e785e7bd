"""What a row of the speed table needs: a stopwatch, the machine's matmul rate, a count of operations.

A row's floating-point operations are those of its matrix products and convolutions, counted while it warms up.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from model.runtime.memory import keep_freed_memory

MATMUL = 2048  # rows and columns of the product that measures the machine
THREADS = 2  # as the published implementation had
PUBLISHED_RATE = 190e9  # FLOP/s in fp32 where the published implementation was timed
ROWS = pytest.StashKey[list["Row"]]()
TABLES = pytest.StashKey[dict[str, list[tuple[str, ...]]]]()  # title -> header and rows of a table


@dataclass(frozen=True)
class Row:
    """One measured line: seconds are the median of its rounds; rates are those of the product in the same run."""

    name: str
    seconds: float
    audio: float
    flop: float
    rate: float
    fp32_rate: float
    published: float | None

    @property
    def cells(self) -> tuple[str, ...]:
        share = f"{100 * self.flop / self.seconds / self.rate:.0f} %"
        row = self.name, f"{self.seconds:.3f}", f"{self.audio / self.seconds:.1f}", share
        if self.published is None:
            return *row, "", "", ""
        here = self.published * PUBLISHED_RATE / self.fp32_rate
        faster = self.published / self.seconds, here / self.seconds
        return *row, f"{self.published:.2f}", f"{faster[0]:.2f}", f"{faster[1]:.2f}"


DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture(scope="session")
def device() -> torch.device:
    """Where the rows run: a GPU if there is one."""
    return DEVICE


def wait() -> None:
    """Until the device has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def matmul_rate(dtype: torch.dtype) -> float:
    """FLOP/s of a 2048 x 2048 product, the median of three: what this machine can do at most in this second."""
    a, b = (torch.randn(MATMUL, MATMUL, device=DEVICE).to(dtype) for _ in range(2))
    seconds = []
    for _ in range(4):
        start = time.perf_counter()
        a @ b
        wait()
        seconds.append(time.perf_counter() - start)
    return 2 * MATMUL**3 / statistics.median(seconds[1:])


def _attention_flop(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    """Two products of the CPU's fused attention, which the counter does not know; shapes (B, H, T, E)."""
    B, H, T, E = query
    return 4 * B * H * T * key[2] * E


def _convolution_flop(weight: Any, output: Any) -> int:
    """Weight (C', C / groups, *kernel), output (B, C', *positions)."""
    return 2 * math.prod(weight) * output[0] * math.prod(output[2:])


def _convolution_backward_flop(gradient: Any, _: Any, weight: Any, *__: Any, **___: Any) -> int:
    """As much for the weights as for the input; the counter's own figure is wrong by a factor of the groups."""
    return 2 * _convolution_flop(weight, gradient)


def counted_flop(work: Callable[[], Any]) -> float:
    """Floating-point operations of the work's products and convolutions."""
    aten = torch.ops.aten
    own = {
        aten._scaled_dot_product_flash_attention_for_cpu: _attention_flop,
        aten.convolution_backward: _convolution_backward_flop,
    }
    with FlopCounterMode(display=False, custom_mapping=own) as counter:
        work()
    return counter.get_total_flops()


@pytest.fixture
def measure(benchmark: Any, request: pytest.FixtureRequest) -> Iterator[Callable[..., None]]:
    """Time `work`, which handles `audio` seconds, beside the published implementation's seconds where there are any."""
    threads = torch.get_num_threads()
    if not benchmark.disabled:
        torch.set_num_threads(THREADS)
        keep_freed_memory()  # as training and scoring do

    def run(
        work: Callable[[], Any],
        audio: float,
        published: float | None = None,
        dtype: torch.dtype = torch.float32,
        rounds: int = 5,
    ) -> None:
        def once() -> None:
            work()
            wait()

        if benchmark.disabled:
            benchmark(once)
            return
        rates: list[float] = []  # before every round: a shared machine changes its speed by the minute
        flop = counted_flop(once)
        benchmark.pedantic(once, setup=lambda: rates.append(matmul_rate(torch.float32)), rounds=rounds, warmup_rounds=1)
        fp32_rate = statistics.median(rates)
        rate = fp32_rate if dtype == torch.float32 else matmul_rate(dtype)
        name = request.node.name.removeprefix("test_").replace("_", " ")
        row = Row(name, benchmark.stats.stats.median, audio, flop, rate, fp32_rate, published)
        benchmark.extra_info.update(dataclasses.asdict(row))
        request.config.stash.setdefault(ROWS, []).append(row)

    yield run
    torch.set_num_threads(threads)


@pytest.fixture
def add_row(request: pytest.FixtureRequest) -> Callable[[str, tuple[str, ...], tuple[str, ...]], None]:
    """Adds a row of cells to the table of a title, which has a header."""

    def add(title: str, header: tuple[str, ...], cells: tuple[str, ...]) -> None:
        request.config.stash.setdefault(TABLES, {}).setdefault(title, [header, ("---",) * len(header)]).append(cells)

    return add


HEADER = "work", "s", "audio s/s", "of matmul", "published s", "times faster", "at equal matmul"


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """The rows as the tables of RESULTS.md."""
    for title, lines in config.stash.get(TABLES, {}).items():
        terminalreporter.section(title)
        for cells in lines:
            terminalreporter.write_line("| " + " | ".join(cells) + " |")
    rows = config.stash.get(ROWS, [])
    if not rows:
        return
    rates = [row.fp32_rate / 1e9 for row in rows]
    terminalreporter.section("speed")
    for cells in (HEADER, ("---",) * len(HEADER), *(row.cells for row in rows)):
        terminalreporter.write_line("| " + " | ".join(cells) + " |")
    terminalreporter.write_line(
        f"{DEVICE}, torch {torch.__version__}, {THREADS} threads, fp32 matmul {min(rates):.0f} to {max(rates):.0f} "
        f"GFLOP/s. At equal matmul: the published seconds scaled from {PUBLISHED_RATE / 1e9:.0f} GFLOP/s to the row's."
    )
