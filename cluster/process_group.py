"""A torch process group over Ray Train's workers that imports torch in the workers alone.

Ray's own TorchConfig imports torch in the trial's driver and in Ray Train's controller too, which costs seconds of CPU
time a trial on a small machine.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import ray
from ray.train.backend import Backend, BackendConfig

# The limit of a collective operation: a rank may decode long utterances while the others wait. Ray notices a
# rank that died within seconds.
COLLECTIVE_SECONDS = 1800.0
SHUTDOWN_SECONDS = 5.0


@dataclass
class ProcessGroup(BackendConfig):
    """The workers of a run form torch.distributed's default group: nccl on GPUs, gloo on CPUs."""

    backend: str = "gloo"

    @property
    def backend_cls(self) -> type[Backend]:
        return _ProcessGroupBackend


class _ProcessGroupBackend(Backend):
    share_cuda_visible_devices = True

    def on_start(self, worker_group: Any, backend_config: BackendConfig) -> None:
        assert isinstance(backend_config, ProcessGroup)
        host, port = worker_group.execute_single(0, _choose_address)
        ray.get(
            [
                worker_group.execute_single_async(
                    rank, _join, backend_config.backend, host, port, rank, len(worker_group)
                )
                for rank in range(len(worker_group))
            ]
        )

    def on_shutdown(self, worker_group: Any, backend_config: BackendConfig) -> None:
        ray.wait(worker_group.execute_async(_leave), num_returns=len(worker_group), timeout=SHUTDOWN_SECONDS)


def _choose_address() -> tuple[str, int]:
    """This node's address and a port that is free now."""
    host = ray.util.get_node_ip_address()
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as free:
        free.bind(("", 0))
        return host, free.getsockname()[1]


def _join(backend: str, host: str, port: int, rank: int, size: int) -> None:
    import ray.train
    import torch
    import torch.distributed

    context = ray.train.get_context()
    os.environ |= {
        "MASTER_ADDR": host,
        "MASTER_PORT": str(port),
        "RANK": str(rank),
        "WORLD_SIZE": str(size),
        "LOCAL_RANK": str(context.get_local_rank()),
        "LOCAL_WORLD_SIZE": str(context.get_local_world_size()),
        "NODE_RANK": str(context.get_node_rank()),
    }
    if backend == "nccl":
        torch.cuda.set_device(_gpu_index())
    torch.distributed.init_process_group(
        backend, init_method="env://", rank=rank, world_size=size, timeout=timedelta(seconds=COLLECTIVE_SECONDS)
    )


def _gpu_index() -> int:
    """The index of this worker's GPU among the visible ones, which are those of all workers on its node."""
    gpu = str(ray.get_gpu_ids()[0])
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    return visible.index(gpu) if gpu in visible else 0


def _leave() -> None:
    import torch.distributed

    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
