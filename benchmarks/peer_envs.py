"""Environments for the peers: each in a virtual environment of its own, so that nothing of theirs meets ours.

    python benchmarks/peer_envs.py                    all peers, in temporary directories
    python benchmarks/peer_envs.py huey dbos --cache .venvs/peers --workdir /some/disk

Each peer is measured by `peers/<name>.py` in a process of its own, and one line of JSON is printed for it. A peer that
can't be installed or run yields a dict with an "error": the table says so, and the benchmark goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
INSTALL_LIMIT_SECONDS = 300.0
# Above the hard limit that each script sets itself.
RUN_LIMIT_SECONDS = 75.0
# What of a failed command's output goes into the error.
ERROR_CHARACTERS = 600


@dataclass(frozen=True, slots=True)
class Peer:
    """What to install, on which Python, and the module that measures it."""

    requirements: tuple[str, ...]
    module: str
    min_python: tuple[int, int] = (3, 11)


PEERS = {
    "huey": Peer(("huey==3.5.4",), "peers.huey"),
    "dura": Peer(("dura==1.3.0",), "peers.dura", min_python=(3, 13)),
    "tinyjobs": Peer(("tinyjobs==0.6.0",), "peers.tinyjobs"),
    "localqueue": Peer(("localqueue==1.4.1",), "peers.localqueue"),
    "dbos": Peer(("dbos==3.4.0", "sqlalchemy==2.1.9"), "peers.dbos"),
    "persist-queue": Peer(("persist-queue==1.1.0",), "peers.persist_queue"),
}
#: Those that keep their work in a server's database; measured by the theme "postgres".
ON_POSTGRES = {
    "procrastinate": Peer(("procrastinate==3.10.0", "psycopg[binary]==3.3.9"), "peers.postgres.procrastinate"),
    "pgqueuer": Peer(("pgqueuer==1.6.0", "asyncpg"), "peers.postgres.pgqueuer"),
    "dbos": Peer(("dbos==3.4.0", "sqlalchemy==2.1.9", "psycopg[binary]==3.3.9"), "peers.postgres.dbos"),
    "django-tasks-db": Peer(
        ("django-tasks-db[compat]==0.13.0", "psycopg[binary]==3.3.9"), "peers.postgres.django_tasks"
    ),
    "celery": Peer(("celery[sqlalchemy]==5.7.0", "psycopg2-binary"), "peers.postgres.celery"),
}


class PeerError(RuntimeError):
    """Raised when a peer can't be installed or its script fails."""


def prepare(name: str, peer: Peer, cache: Path) -> Path:
    """Make the environment of a peer below `cache`, unless it is there, and return its Python.

    An environment counts as there once everything is installed; one that was left half made is made again. Raises
    PeerError.
    """
    base = _find_python(peer.min_python)
    home = cache.resolve() / f"{name}-py{'.'.join(map(str, _version_of(base)))}"
    python = home / "bin" / "python"
    stamp = home / "installed.txt"
    wanted = "\n".join(peer.requirements)
    if stamp.is_file() and stamp.read_text() == wanted and python.exists():
        return python
    shutil.rmtree(home, ignore_errors=True)
    home.parent.mkdir(parents=True, exist_ok=True)
    _run([str(base), "-m", "venv", str(home)], INSTALL_LIMIT_SECONDS)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    _run([*pip, *peer.requirements], INSTALL_LIMIT_SECONDS)
    stamp.write_text(wanted)
    return python


def run_peer(name: str, cache: Path, workdir: Path) -> dict[str, object]:
    """Measure one peer on `workdir`, a directory on the disk to measure, and return what its script prints.

    Never raises for a peer's sake: the dict has "peer" and "error" when it could not be installed or run.
    """
    try:
        python = prepare(name, PEERS[name], cache)
        workdir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f"{name}-", dir=workdir.resolve()) as place:
            # As a module from here: run as a file, peers/huey.py would find itself when it imports huey.
            printed = _run([str(python), "-m", PEERS[name].module, place], RUN_LIMIT_SECONDS)
        result = json.loads(printed.splitlines()[-1])
    except (PeerError, OSError, ValueError, IndexError) as error:
        return {"peer": name, "error": f"{type(error).__name__}: {error}"}
    if not isinstance(result, dict):
        return {"peer": name, "error": f"the script printed {type(result).__name__}, not an object"}
    return result


def run_module(python: Path, module: str, *arguments: str, limit: float = RUN_LIMIT_SECONDS) -> str:
    """Run a peer's script and return its output. Raises PeerError."""
    return _run([str(python), "-W", "ignore", "-m", module, *arguments], limit)


def _run(command: list[str], limit: float) -> str:
    """Run a command from this directory and return its output; at the limit, end its whole process group."""
    with subprocess.Popen(
        command,
        cwd=HERE,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            output, errors = process.communicate(timeout=limit)
        except BaseException as error:
            _end_group(process)
            if isinstance(error, subprocess.TimeoutExpired):
                raise PeerError(_anonymous(f"{' '.join(command[1:4])} did not end within {limit:.0f} s")) from None
            raise
    if process.returncode != 0:
        said = (errors or output).strip()[-ERROR_CHARACTERS:]
        raise PeerError(_anonymous(f"{' '.join(command[1:4])} ended with {process.returncode}: {said}"))
    return output


def _anonymous(text: str) -> str:
    """Leave out addresses, and the directories of paths: errors end up in a table that is published."""
    without_addresses = re.sub(r"\b[a-z+]+://\S+|\bhost='[^']*'", "[address]", text)
    return re.sub(r"(?<![\w.])/(?:[^\s/'\":,]+/)+", "", without_addresses)


def _end_group(process: subprocess.Popen[str]) -> None:
    # Not yet waited for, so the id is still that of the process started here, which leads its own group.
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _environment() -> dict[str, str]:
    """Return this environment without what would let our own packages into a peer's."""
    dropped = {"PYTHONPATH", "PYTHONHOME", "PYTHONWARNINGS", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__"}
    return {key: value for key, value in os.environ.items() if key not in dropped}


def _find_python(minimum: tuple[int, int]) -> Path:
    """Return the Python that runs this, or the first other one found that is new enough."""
    if sys.version_info[:2] >= minimum:
        return Path(sys.executable)
    for candidate in _other_pythons(minimum):
        if _version_of(candidate, missing=(0, 0)) >= minimum:
            return candidate
    raise PeerError(f"needs Python {minimum[0]}.{minimum[1]} or newer, and none was found")


def _other_pythons(minimum: tuple[int, int]) -> Iterator[Path]:
    names = [f"python{minimum[0]}.{minor}" for minor in range(minimum[1], minimum[1] + 4)]
    for name in names:
        if found := shutil.which(name):
            yield Path(found)
    # pyenv's shims are on the PATH and answer only for the versions that are switched on.
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    for name in names:
        yield from sorted(pyenv.glob(f"versions/*/bin/{name}"))


def _version_of(python: Path, missing: tuple[int, int] | None = None) -> tuple[int, int]:
    try:
        printed = _run([str(python), "-c", "import sys; print(*sys.version_info[:2])"], 30.0)
        major, minor = map(int, printed.split())
    except (PeerError, OSError, ValueError):
        if missing is None:
            raise
        return missing
    return major, minor


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the peers, each in an environment of its own.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(PEERS)} (default: all)")
    parser.add_argument("--cache", type=Path, help="where environments are kept (default: a temporary directory)")
    parser.add_argument("--workdir", type=Path, help="a directory on the disk to measure (default: a temporary one)")
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in PEERS]:
        parser.error(f"unknown peer {', '.join(unknown)}; known are {', '.join(PEERS)}")
    with tempfile.TemporaryDirectory(prefix="peers-") as temporary:
        for name in options.names or PEERS:
            cache = options.cache or Path(temporary) / "environments"
            workdir = options.workdir or Path(temporary) / "work"
            print(json.dumps(run_peer(name, cache, workdir)), flush=True)


if __name__ == "__main__":
    main()
