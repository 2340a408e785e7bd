"""A look at the machine that this process runs on. Torch is imported only where Ray has GPUs."""

from __future__ import annotations

import importlib.metadata
import platform
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cluster.errors import format_error
from cluster.preflight.facts import Facts, Gpu, Request
from cluster.preflight.storage import look_at_storage

SHM = "/dev/shm"
Begin = Callable[[str], object]  # is called with what is looked at next


def look(request: Request, node_id: str, ray_gpus: float, begin: Begin) -> Facts:
    """The facts of this machine, which Ray calls `node_id` and gives so many GPUs; nothing here raises."""
    begin("its packages")
    packages = {name: _find_version(name) for name in request.packages}
    begin("its GPUs")
    gpus, gpu_fault = _look_at_gpus() if ray_gpus else ([], None)
    begin("its memory")
    shm = shutil.disk_usage(SHM) if Path(SHM).is_dir() else None
    begin("its temporary files")
    temp = str(Path.cwd())  # where Ray unpacks a job's upload
    temp_free = shutil.disk_usage(temp).free
    begin(f"the storage {request.storage}")
    storage = look_at_storage(request, node_id) if request.storage is not None else None
    value, fault = _run_check(request, begin)
    return Facts(
        python=platform.python_version(),
        packages=packages,
        addresses=_list_addresses(),
        ray_gpus=ray_gpus,
        gpus=gpus,
        gpu_fault=gpu_fault,
        shm=shm.total if shm else 0,
        shm_free=shm.free if shm else 0,
        open_files=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        temp=temp,
        temp_free=temp_free,
        storage=storage,
        value=value,
        fault=fault,
    )


def list_system_ports() -> str | None:
    """LOW-HIGH: the ports from which the system chooses where a program names none."""
    try:
        return "-".join(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    except OSError:
        return None


def _find_version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _list_addresses() -> dict[str, list[str]]:
    import psutil  # a dependency of Ray, which adds it to the path when imported

    interfaces: dict[str, list[Any]] = psutil.net_if_addrs()
    return {name: [one.address for one in found if one.address] for name, found in interfaces.items()}


def _look_at_gpus() -> tuple[list[Gpu], str | None]:
    try:
        import torch

        if torch.version.cuda is None:
            return [], f"torch {torch.__version__} is built without CUDA"
        torch.cuda.init()
        return [_look_at_gpu(torch, index) for index in range(torch.cuda.device_count())], None
    except Exception as error:  # a library that is missing, a driver that is too old
        return [], format_error(error)


def _look_at_gpu(torch: Any, index: int) -> Gpu:
    free, total = torch.cuda.mem_get_info(index)
    try:
        torch.ones(2, device=f"cuda:{index}").sum().item()
        fault = None
    except RuntimeError as error:
        fault = format_error(error)
    return Gpu(torch.cuda.get_device_name(index), free, total, fault)


def _run_check(request: Request, begin: Begin) -> tuple[str | None, str | None]:
    if request.check is None:
        return None, None
    begin(f"the {request.check.name}")
    try:
        return request.check.look(), None
    except Exception as error:  # whatever it is, it is what a trial would meet here
        return None, format_error(error)
