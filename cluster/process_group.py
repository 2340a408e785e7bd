"""The torch process group of Ray Train's workers, whose first worker listens on one of the workers' ports.

Ray's own TorchConfig takes any port of the machine, which a firewall between machines may close.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import ray
from ray.train.backend import Backend, BackendConfig
from ray.train.torch import TorchConfig

from cluster.interfaces import choose_gloo_interface
from cluster.worker_ports import listen_on_worker_port

# The limit of a collective operation: a rank may decode long utterances while the others wait. Ray notices a
# rank that died within seconds.
COLLECTIVE_SECONDS = 1800.0
RENDEZVOUS_SECONDS = 300.0  # for all workers to come together once Ray has started them
SHUTDOWN_SECONDS = 5.0

_store: Any = None  # in the first worker: the rendezvous, from its start to the end of the process group


@dataclass
class ProcessGroup(TorchConfig):
    """The workers of a run form torch.distributed's default group: nccl on GPUs, gloo on CPUs."""

    @property
    def backend_cls(self) -> type[Backend]:
        return _ProcessGroupBackend


class _ProcessGroupBackend(Backend):
    share_cuda_visible_devices = True

    def on_start(self, worker_group: Any, backend_config: BackendConfig) -> None:
        assert isinstance(backend_config, ProcessGroup)
        size = len(worker_group)
        host, port = worker_group.execute_single(0, _start_rendezvous, size)
        ray.get(
            [
                worker_group.execute_single_async(rank, _join, backend_config.backend, host, port, rank, size)
                for rank in range(size)
            ]
        )

    def on_shutdown(self, worker_group: Any, backend_config: BackendConfig) -> None:
        ray.wait(worker_group.execute_async(_leave), num_returns=len(worker_group), timeout=SHUTDOWN_SECONDS)


def _start_rendezvous(size: int) -> tuple[str, int]:
    """The address at which the first worker, this one, listens for the others from now on."""
    global _store
    from torch.distributed import TCPStore

    host = ray.util.get_node_ip_address()
    server = listen_on_worker_port(host)
    port: int = server.getsockname()[1]
    # The store takes the socket over, so that nobody else can take the port in between.
    _store = TCPStore(
        host,
        port,
        size,
        is_master=True,
        timeout=timedelta(seconds=RENDEZVOUS_SECONDS),
        wait_for_workers=False,
        master_listen_fd=server.detach(),
    )
    return host, port


def _join(backend: str, host: str, port: int, rank: int, size: int) -> None:
    import ray.train
    import torch
    import torch.distributed as dist

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
    else:
        choose_gloo_interface(ray.util.get_node_ip_address())
    patience = timedelta(seconds=RENDEZVOUS_SECONDS)
    store = _store if rank == 0 else dist.TCPStore(host, port, size, is_master=False, timeout=patience)
    dist.init_process_group(
        backend, store=store, rank=rank, world_size=size, timeout=timedelta(seconds=COLLECTIVE_SECONDS)
    )


def _gpu_index() -> int:
    """The index of this worker's GPU among the visible ones, which are those of all workers on its node."""
    gpu = str(ray.get_gpu_ids()[0])
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    return visible.index(gpu) if gpu in visible else 0


def _leave() -> None:
    global _store
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()
    _store = None
