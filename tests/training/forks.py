"""Real processes for a tenth of their price: a server that has imported torch forks a child for each command.

A child runs `jensen` with its own process id, output, signals and exit code, and can be killed at any moment.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self


class Forks:
    """A server; a context that ends it. Its children write what they print to files in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.server = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        self.server.stdin.close()
        self.server.wait(timeout=30)
        self.server.stdout.close()

    def _ask(self, **request: Any) -> int:
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        self.server.stdin.write(json.dumps(request) + "\n")
        self.server.stdin.flush()
        return int(self.server.stdout.readline())

    def start(
        self, *arguments: object, between: float = 0.0, largest: int | None = None, syncs: int | None = None
    ) -> Child:
        """Begin `jensen ARGUMENTS`.

        Args:
            *arguments: its words.
            between: seconds from one checkpoint to the next.
            largest: bytes that no file can have more of, as if the disk were full then.
            syncs: SIGKILL comes as so many files have been written, at the moment in which the last is flushed to disk.
        """
        self.count += 1
        output = self.folder / f"output-{self.count}.txt"
        words = [str(argument) for argument in arguments]
        request = {"between": between, "largest": largest, "syncs": syncs, "output": str(output)}
        return Child(self, self._ask(arguments=words, **request), output)

    def run(self, *arguments: object, **options: Any) -> tuple[int, str]:
        """Exit code and output of a command that nothing stops."""
        child = self.start(*arguments, **options)
        return child.wait(), child.said

    def wait(self, pid: int) -> int:
        """How a child ended: its exit code, or minus the number of the signal that killed it."""
        return self._ask(wait=pid)


class Child:
    """A process that runs a command."""

    def __init__(self, forks: Forks, pid: int, output: Path) -> None:
        self.forks, self.pid, self.output = forks, pid, output

    def send(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self) -> int:
        return self.forks.wait(self.pid)

    @property
    def said(self) -> str:
        return self.output.read_text()

    def wait_for(self, path: Path, seconds: float = 20.0) -> None:
        """Until this file or folder is there."""
        end = time.monotonic() + seconds
        while not path.exists():
            assert time.monotonic() < end, f"{path} did not come: {self.said}"
            time.sleep(0.002)


def _serve() -> None:
    import torch

    import jensen.cli.app
    import jensen.cli.train
    import jensen.training
    from jensen.config import DataConfig
    from jensen.data import load_data

    torch.set_num_threads(1)
    load_data(DataConfig(limit=10))  # what is imported here, no child has to import
    assert jensen.training
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            print(os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1]), flush=True)
            continue
        pid = os.fork()
        if pid == 0:
            _run(request)
        print(pid, flush=True)


def _run(request: dict[str, Any]) -> None:
    import resource

    from jensen.cli.app import main
    from jensen.training import loop

    output = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    loop.SECONDS_BETWEEN_CHECKPOINTS = request["between"]
    if request["largest"] is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["largest"], request["largest"]))
    if request["syncs"] is not None:
        _die_after(request["syncs"])
    code = 99
    try:
        code = main(request["arguments"])
        sys.stdout.flush()
    finally:
        os._exit(code)


def _die_after(syncs: int) -> None:
    done, flush = 0, os.fsync

    def counted(handle: int) -> None:
        nonlocal done
        done += 1
        if done == syncs:
            os.kill(os.getpid(), signal.SIGKILL)
        flush(handle)

    os.fsync = counted


if __name__ == "__main__":
    _serve()
