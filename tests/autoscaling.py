"""A Ray cluster on this machine that adds nodes when something waits for resources, and removes them when idle.

It is that of `ray.cluster_utils.AutoscalingCluster`, which itself cannot be used: it starts and ends with `ray stop`,
which would end every Ray of this machine, and its installed package lacks the configuration that it reads.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from chaos.study_process import CommandProcess, wait_until
from free_ports import choose_port

HEAD, WORKER = "ray.head.default", "worker"
STORE_BYTES = 80 * 1024**2


@contextlib.contextmanager
def start_autoscaling_cluster(cpus: int, most_nodes: int) -> Iterator[str]:
    """The address of a head without CPUs, which adds at most so many nodes with `cpus` each; in an empty home folder.

    It starts in the current folder, whose files it leaves there.
    """
    folder = Path(tempfile.mkdtemp(prefix="ray"))  # it holds sockets, so its path has to be short
    port = choose_port()
    address = f"127.0.0.1:{port}"
    (folder / "autoscaling.json").write_text(json.dumps(_make_config(address, cpus, most_nodes)))
    head = CommandProcess(
        [
            *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats"),
            *("--node-ip-address=127.0.0.1", f"--port={port}", f"--ray-client-server-port={choose_port()}"),
            *("--include-dashboard=false", f"--dashboard-agent-listen-port={choose_port()}", "--num-cpus=0"),
            *(f"--object-store-memory={STORE_BYTES}", f"--temp-dir={folder / 'session'}"),
            f"--autoscaling-config={folder / 'autoscaling.json'}",
        ],
        {"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1", "HOME": str(folder)},
    )
    try:
        wait_until(lambda: "Ray runtime started" in head.output, head, "the head did not come up")
        yield address
    finally:
        head.close()
        shutil.rmtree(folder, ignore_errors=True)


def _make_config(address: str, cpus: int, most_nodes: int) -> dict[str, Any]:
    worker = {"resources": {"CPU": cpus, "object_store_memory": STORE_BYTES}, "node_config": {}}
    return {
        "cluster_name": "tests",
        "max_workers": most_nodes,
        "upscaling_speed": 10.0,
        "idle_timeout_minutes": 5,
        "provider": {"type": "fake_multinode", "gcs_address": address, "launch_multiple": True},
        "auth": {},
        "available_node_types": {
            HEAD: {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            WORKER: worker | {"min_workers": 0, "max_workers": most_nodes},
        },
        "head_node_type": HEAD,
        "file_mounts": {},
        "cluster_synced_files": [],
        "initialization_commands": [],
        "setup_commands": [],
        "head_setup_commands": [],
        "worker_setup_commands": [],
        "head_start_ray_commands": [],
        "worker_start_ray_commands": [],
    }
