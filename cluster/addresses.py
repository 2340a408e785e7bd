"""Addresses of a running cluster, checked within seconds; Ray itself tries for up to two minutes.

A cluster has two: its head's, HOST:6379, which a study's driver connects to, and its dashboard's, http://HOST:8265,
which accepts jobs.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import urllib.error
import urllib.request
from urllib.parse import urlsplit

from cluster.credentials import enable_token_authentication, refused_credentials_error
from cluster.errors import ClusterError, format_error

CHECK_SECONDS = 4.0
UNAUTHORISED = (401, 403)


def check_head(address: str) -> None:
    """Raise a ClusterError where no Ray head answers at HOST:PORT, or where it refuses our token.

    `auto` is not checked: Ray looks it up on this machine, quickly.
    """
    if address == "auto":
        return
    scheme, host, port = _split_address(address)
    if scheme in ("http", "https"):
        raise ClusterError(
            f"address '{address}' is a dashboard's; give the head's, HOST:PORT as `ray start --head` printed it "
            "(port 6379 unless another was chosen), or send the study there with `decred-study submit`"
        )
    if scheme not in ("", "ray") or host is None or port is None:
        raise no_head_error(address, "not HOST:PORT")
    try:
        socket.create_connection((host, port), CHECK_SECONDS).close()
    except OSError as error:
        raise no_head_error(address, format_error(error)) from None
    if not scheme:
        _check_control_service(address, f"[{host}]:{port}" if ":" in host else f"{host}:{port}")


def find_dashboard(address: str) -> str:
    """The URL of the Ray dashboard at http[s]://HOST[:PORT] or HOST:PORT; a ClusterError where none answers."""
    scheme, host, port = _split_address(address)
    if scheme not in ("", "http", "https") or not host or (not scheme and port is None):
        raise _no_dashboard_error(address, "neither http://HOST:PORT nor HOST:PORT")
    url = (address if scheme else f"http://{address}").rstrip("/")
    try:
        with urllib.request.urlopen(
            f"{url}/api/version", timeout=CHECK_SECONDS, context=_make_unverified_context()
        ) as page:
            version = json.loads(page.read())
    except urllib.error.HTTPError as error:
        if error.code in UNAUTHORISED:  # it is a dashboard; Ray's client sends the token and reports a wrong one
            return url
        raise _no_dashboard_error(address, f"HTTP status {error.code}") from None
    except urllib.error.URLError as error:
        raise _no_dashboard_error(address, str(error.reason)) from None
    except (OSError, http.client.HTTPException) as error:
        raise _no_dashboard_error(address, format_error(error)) from None
    except ValueError:
        version = None
    if not isinstance(version, dict) or "ray_version" not in version:
        raise _no_dashboard_error(address, "another web server answers")
    return url


def no_head_error(address: str, reason: str) -> ClusterError:
    """The error of an address at which no head answers."""
    return ClusterError(
        f"address '{address}' does not answer as a Ray cluster ({reason}); "
        "give the address that `ray start --head` printed, HOST:PORT, or leave --address out"
    )


def _check_control_service(address: str, target: str) -> None:
    """Ask the head's control service, by gRPC, whether it is alive."""
    enable_token_authentication()
    import grpc
    from ray._private.grpc_utils import init_grpc_channel
    from ray.core.generated.gcs_service_pb2 import CheckAliveRequest
    from ray.core.generated.gcs_service_pb2_grpc import NodeInfoGcsServiceStub
    from ray.exceptions import AuthenticationError

    try:
        with init_grpc_channel(target) as channel:
            NodeInfoGcsServiceStub(channel).CheckAlive(CheckAliveRequest(), timeout=CHECK_SECONDS)
    except AuthenticationError:
        raise refused_credentials_error(address) from None
    except grpc.RpcError as error:
        if error.code() == grpc.StatusCode.UNAUTHENTICATED:
            raise refused_credentials_error(address) from None
        raise no_head_error(address, "another server answers there, not a Ray head") from None


def _split_address(address: str) -> tuple[str, str | None, int | None]:
    """Scheme (empty where there is none), host and port; host and port are None where the port is no number."""
    try:
        parts = urlsplit(address if "://" in address else f"//{address}")
        return parts.scheme, parts.hostname, parts.port
    except ValueError:
        return "", None, None


def _make_unverified_context() -> ssl.SSLContext:
    """For a request without credentials; Ray's client, which sends the token, verifies the certificate."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _no_dashboard_error(address: str, reason: str) -> ClusterError:
    return ClusterError(
        f"address '{address}' does not answer as a Ray dashboard ({reason}); "
        "give the dashboard's address, http://HEAD:8265"
    )
