"""Finding a Ray cluster, or starting one on this machine that lasts as long as the run.

Ray reports on its use to its makers unless it is told not to: what is started here does not. Whether a
cluster that is there already does is up to who has started it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from dymn_cli.errors import BackendUnavailableError, DymnError, first_line
from dymn_cli.remote.uri import OFFLINE, is_offline

__all__ = ["Cluster", "connected", "end_with_node", "import_ray", "own_error"]

OBJECT_STORE_BYTES = 256 << 20  # names and receipts pass through it, never audio
KNOCK_S = 10.0
LOOK_S = 10.0
LOST = 1  # the exit code by which Ray ends a process that has lost its cluster
LOGGERS = ("ray", "ray.data")


def import_ray() -> Any:
    """Load Ray and Ray Data.

    Raises:
        BackendUnavailableError: they are not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.data
    except ImportError as exc:
        raise BackendUnavailableError(
            f"Ray Data cannot be loaded: {first_line(exc)}", hint="pip install 'dymn[ray]'"
        ) from exc
    return ray


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster that this process is connected to.

    Args:
        cpus: that it has now; one that grows has more later.
        gpus: likewise.
    """

    cpus: int
    gpus: int


@contextlib.contextmanager
def connected(address: str | None, *, cpus: int, verbose: bool = False) -> Iterator[Cluster]:
    """Connect to a cluster, or start one here.

    Where the cluster is lost, Ray ends this process with exit code 1, and raises nothing.

    Args:
        address: of the cluster: "auto", HOST:PORT or ray://HOST:PORT; None for that of `RAY_ADDRESS` or,
            where that is not set, for one on this machine, which ends with the block.
        cpus: of one that is started here.
        verbose: show what Ray logs.

    Raises:
        BackendUnavailableError: Ray is not installed, or there is no cluster.
    """
    if not verbose:
        os.environ.setdefault(
            "RAY_BACKEND_LOG_LEVEL", "fatal"
        )  # what its C++ part writes to stderr by itself
    with contextlib.ExitStack() as block:
        # Ray prints to standard output which workers have died.
        if verbose:
            block.enter_context(contextlib.redirect_stdout(sys.stderr))
        else:
            nowhere = block.enter_context(open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123
            block.enter_context(contextlib.redirect_stdout(nowhere))
            block.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")  # of Ray, about what it does itself
        yield block.enter_context(_connected(address, cpus, verbose=verbose))


@contextlib.contextmanager
def _connected(address: str | None, cpus: int, *, verbose: bool) -> Iterator[Cluster]:
    ray = import_ray()
    found = address or os.environ.get("RAY_ADDRESS")
    own = {"num_cpus": cpus, "object_store_memory": OBJECT_STORE_BYTES, "include_dashboard": False}
    level = logging.INFO if verbose else logging.CRITICAL
    if found and is_offline():
        raise BackendUnavailableError(
            f"{OFFLINE} forbids going to a cluster", hint="without an address, Ray starts here"
        )
    try:
        if found:
            _knock(found)
        ray.init(
            address=found or "local",
            logging_level=level,
            log_to_driver=verbose,
            **({} if found else own),
        )
    except (ConnectionError, RuntimeError, ValueError, OSError) as exc:
        where = f"at {found}" if found else "can be started here"
        raise BackendUnavailableError(
            f"no Ray cluster {where}: {first_line(exc)}",
            hint="ray start --head starts one; --ray-address auto finds it",
        ) from exc
    try:
        for name in LOGGERS:
            logging.getLogger(name).setLevel(level)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = context.enable_progress_bars and verbose
        resources = ray.cluster_resources()
        with contextlib.nullcontext() if found and found.startswith("ray://") else end_with_node(ray):
            yield Cluster(int(resources.get("CPU", 0)), int(resources.get("GPU", 0)))
    finally:
        ray.shutdown()


@contextlib.contextmanager
def end_with_node(ray: Any) -> Iterator[None]:
    """End this process when its node of the cluster is gone, as Ray does itself in most places.

    In others, it waits for what that node cannot give any more, for ever.
    """
    here = ray.get_runtime_context().get_node_id()
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(LOOK_S):
            with contextlib.suppress(Exception):  # nobody answers just now
                is_gone = any(node["NodeID"] == here and not node["Alive"] for node in ray.nodes())
                if is_gone and not is_over.is_set():  # an answer may come after the cluster has been left
                    os._exit(LOST)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join(LOOK_S)


def _knock(address: str) -> None:
    """See that somebody listens there, which Ray itself would wait for, for minutes.

    Raises:
        OSError: nobody does.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), KNOCK_S).close()


def own_error(exc: BaseException | None) -> DymnError | None:
    """The error of ours that a worker has raised, out of what Ray has wrapped around it; None for others."""
    seen: set[int] = set()
    waiting = [exc]
    while waiting:
        one = waiting.pop(0)
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        cause = getattr(one, "cause", None)  # Ray's own errors pretend to be of its class
        if isinstance(one, DymnError) and not isinstance(cause, BaseException):
            return one
        waiting += [cause if isinstance(cause, BaseException) else None, one.__cause__, one.__context__]
    return None
