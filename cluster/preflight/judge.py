"""From facts to findings: what keeps trials from running, or from giving what they give on the other nodes.

Nodes are compared with the head, on which the driver of a study runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from cluster.preflight.facts import Facts, Finding, Node, Pair, Request

MIB, GIB = 1024**2, 1024**3
LEAST_SHM_FREE = 512 * MIB  # batches of loader processes and NCCL's buffers go through it; containers often have 64 MiB
LEAST_OPEN_FILES = 4096  # a worker's connections, files, and a descriptor for each tensor that a loader sends
MOST_CLOCK_SECONDS = 2.0  # times of a study's events come from several machines and are compared
LEAST_TEMP_FREE = 1 * GIB  # Ray's logs and a copy of each job's upload, up to 100 MiB, lie there
LEAST_GPU_SHARE = 0.9  # of a GPU's memory: the largest batch is found on one GPU, and has to fit on all others

Judge = Callable[[Facts, Facts | None, Request], Iterator[tuple[str, str, str]]]  # check, fault and remedy


def judge_nodes(nodes: Sequence[Node], request: Request) -> list[Finding]:
    """The faults of each node, in the order of the nodes."""
    head = next((node.facts for node in nodes if node.is_head), None)
    return [
        Finding((node.address,), *found)
        for node in nodes
        for found in (_judge_silence(node) if node.facts is None else judge_facts(node.facts, head, request))
    ]


def judge_facts(facts: Facts, head: Facts | None, request: Request) -> Iterator[tuple[str, str, str]]:
    """Check, fault and remedy for each fault of a node; `head` is what the head has, None where it did not answer."""
    for judge in JUDGES:
        yield from judge(facts, head, request)


def judge_pairs(pairs: Sequence[Pair]) -> list[Finding]:
    """The pairs that could not compute together."""
    return [Finding(pair.addresses, "network", *_judge_pair(pair)) for pair in pairs if pair.fault is not None]


def choose_excluded(nodes: Sequence[Node], findings: Sequence[Finding]) -> list[str]:
    """Addresses without which no finding is left, in the order of the nodes.

    Of two nodes that do not reach each other one is enough: the one with more such faults, and not the head.
    """
    excluded = {finding.addresses[0] for finding in findings if len(finding.addresses) == 1}
    order = {node.address: (node.is_head, -number) for number, node in enumerate(nodes)}
    broken = [finding.addresses for finding in findings if len(finding.addresses) > 1]
    while broken := [pair for pair in broken if not excluded & set(pair)]:
        faults = Counter(address for pair in broken for address in pair)
        excluded.add(min(faults, key=lambda address: (-faults[address], order[address])))
    known = [node.address for node in nodes]
    return sorted(excluded, key=known.index)


def _judge_silence(node: Node) -> Iterator[tuple[str, str, str]]:
    remedy = "see its log in Ray's temp folder there, and start Ray on it again"
    yield "answer", node.silence or "it did not answer", remedy


def _judge_python(facts: Facts, head: Facts | None, request: Request) -> Iterator[tuple[str, str, str]]:
    if head is not None and facts.python != head.python:
        fault = f"Python {facts.python}, but {head.python} on the head"
        yield "python", fault, f"start Ray there with Python {head.python}, since Ray needs the same to the patch"


def _judge_packages(facts: Facts, head: Facts | None, request: Request) -> Iterator[tuple[str, str, str]]:
    missing = [name for name, version in facts.packages.items() if version is None]
    if missing:
        wanted = " ".join(_require(name, head) for name in missing)
        yield "packages", f"{', '.join(missing)} not installed", f"install there: pip install {wanted}"
    others = [
        name
        for name, version in facts.packages.items()
        if version is not None and head is not None and head.packages.get(name) not in (None, version)
    ]
    if others:
        assert head is not None
        fault = ", ".join(f"{name} {facts.packages[name]}, but {head.packages[name]} on the head" for name in others)
        wanted = " ".join(_require(name, head) for name in others)
        yield "packages", fault, f"install there what the head has: pip install {wanted}"


def _require(name: str, head: Facts | None) -> str:
    version = head.packages.get(name) if head is not None else None
    return f"{name}=={version}" if version is not None else name


def _judge_gpus(facts: Facts, head: Facts | None, request: Request) -> Iterator[tuple[str, str, str]]:
    if len(facts.gpus) < facts.ray_gpus:
        why = f" ({facts.gpu_fault})" if facts.gpu_fault else ""
        fault = f"Ray has {_count(facts.ray_gpus, 'GPU')}, but torch sees {len(facts.gpus)}{why}"
        remedy = "compare with nvidia-smi there: install a torch that its driver can run, or start Ray with fewer GPUs"
        yield "gpu", fault, remedy
    for index, gpu in enumerate(facts.gpus):
        if gpu.fault is not None:
            remedy = "reset or replace it, or start Ray there without it (CUDA_VISIBLE_DEVICES)"
            yield "gpu", f"nothing can be computed on GPU {index}, {gpu.name} ({gpu.fault})", remedy
        elif gpu.free < LEAST_GPU_SHARE * gpu.total:
            fault = f"GPU {index}, {gpu.name}, has {_gib(gpu.free)} of {_gib(gpu.total)} free"
            yield "gpu memory", fault, "end what holds it (nvidia-smi names the processes), or wait for it"


def _judge_memory(facts: Facts, head: Facts | None, request: Request) -> Iterator[tuple[str, str, str]]:
    if facts.shm_free < LEAST_SHM_FREE:
        fault = f"{_mib(facts.shm_free)} of {_mib(facts.shm)} free, less than {_mib(LEAST_SHM_FREE)}"
        remedy = (
            "mount a larger one (mount -o remount,size=8G /dev/shm; docker --shm-size; an emptyDir of medium Memory)"
        )
        yield "/dev/shm", fault, remedy


def _judge_open_files(facts: Facts, head: Facts | None, request: Request) -> Iterator[tuple[str, str, str]]:
    if 0 <= facts.open_files < LEAST_OPEN_FILES:  # -1 is no limit
        fault = f"a worker may open {facts.open_files} files, less than {LEAST_OPEN_FILES}"
        yield (
            "ulimit",
            fault,
            "raise `ulimit -n`, soft and hard, to 65536 for Ray's processes, and start Ray there again",
        )


def _judge_clock(facts: Facts, head: Facts | None, request: Request) -> Iterator[tuple[str, str, str]]:
    if abs(facts.clock) - facts.clock_error > MOST_CLOCK_SECONDS:
        ahead = "ahead of" if facts.clock > 0 else "behind"
        fault = f"its clock is {abs(facts.clock):.1f} s {ahead} the head's"
        yield "clock", fault, "set it by NTP (chronyc makestep; timedatectl set-ntp true)"


def _judge_temp(facts: Facts, head: Facts | None, request: Request) -> Iterator[tuple[str, str, str]]:
    if facts.temp_free < LEAST_TEMP_FREE:
        fault = f"{_mib(facts.temp_free)} free in {facts.temp}, less than {_mib(LEAST_TEMP_FREE)}"
        yield "temporary files", fault, "free space there, or start Ray with a --temp-dir on a larger disk"


def _judge_storage(facts: Facts, head: Facts | None, request: Request) -> Iterator[tuple[str, str, str]]:
    seen, storage = facts.storage, request.storage
    if seen is None:
        return
    if not seen.is_folder:
        yield "storage", f"{storage} is no folder", "mount it there, or correct `storage` in the profile"
    elif seen.fault is not None:
        yield (
            "storage",
            f"{storage} cannot be written ({seen.fault})",
            "mount it for writing, and correct its permissions",
        )
    elif head is None or head.storage is None or not head.storage.has_marker:
        return  # what the head itself does not have cannot be compared
    elif not seen.has_marker or seen.is_seen is False:
        fault = f"{storage} is not the one that the head has (it is {seen.mount}, on the head {head.storage.mount})"
        yield "storage", fault, "mount the head's file system under this path"


def _judge_check(facts: Facts, head: Facts | None, request: Request) -> Iterator[tuple[str, str, str]]:
    check = request.check
    if check is None:
        return
    if facts.fault is not None:
        yield check.name, facts.fault, check.remedy
    elif head is not None and head.value is not None and facts.value != head.value:
        yield check.name, f"{facts.value}, but {head.value} on the head", check.remedy


def _judge_pair(pair: Pair) -> tuple[str, str]:
    interfaces = " and ".join(name or "none" for name in pair.interfaces)
    workers = f"{pair.worker_ports} (DECRED_WORKER_PORTS)" if pair.worker_ports else "all ports"
    system = (
        f" and {pair.system_ports} (net.ipv4.ip_local_port_range)" if pair.worker_ports and pair.system_ports else ""
    )
    remedy = (
        f"open TCP {workers}{system} between them in both directions, or name the interface that joins them as "
        f"{'NCCL' if pair.backend == 'nccl' else 'GLOO'}_SOCKET_IFNAME under `env` in the profile"
    )
    return f"{pair.fault}, over the interfaces {interfaces}", remedy


JUDGES: tuple[Judge, ...] = (
    _judge_python,
    _judge_packages,
    _judge_gpus,
    _judge_memory,
    _judge_open_files,
    _judge_clock,
    _judge_temp,
    _judge_storage,
    _judge_check,
)


def _count(number: float, unit: str) -> str:
    return f"{number:g} {unit}" + ("" if number == 1 else "s")


def _mib(size: int) -> str:
    return f"{size // MIB} MiB"


def _gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB"
