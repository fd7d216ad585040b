#!/usr/bin/env python3
"""Compares the simulator with moto, an emulator that others wrote.

Usage: python3 tests/conformance/run.py --simulator PATH_TO_BINARY [--write]

Starts both on free loopback ports, drives each with emr_containers.py, and exits with 1 unless
the differences are exactly those of differences.json, each of which has a reason. `--write`
writes the present differences there and keeps the reasons of those that were known.

boto3 and moto in the versions of requirements.txt are installed into a virtual environment in
the user's cache when this interpreter doesn't have them.
"""

import argparse
import contextlib
import hashlib
import importlib.metadata
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
REQUIREMENTS = HERE / "requirements.txt"
DIFFERENCES = HERE / "differences.json"
# Set for the interpreter of the virtual environment, so that it never makes another one.
INNER = "EMR_CONFORMANCE_INNER"
START_SECONDS = 60
ABSENT = "<absent>"


def has_requirements():
    """Whether this interpreter has every pinned package."""
    for line in REQUIREMENTS.read_text().split():
        name, version = line.split("==")
        try:
            if importlib.metadata.version(name.split("[")[0]) != version:
                return False
        except importlib.metadata.PackageNotFoundError:
            return False
    return True


def cached_python():
    """The interpreter of a virtual environment with the pinned packages."""
    key = REQUIREMENTS.read_bytes() + sys.version.encode()
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    home = cache / "emrcontainers-operator" / f"conformance-{hashlib.sha256(key).hexdigest()[:12]}"
    python = home / "bin" / "python"
    complete = home / "complete"
    if not complete.exists():
        print(f"installing {', '.join(REQUIREMENTS.read_text().split())} into {home}", file=sys.stderr)
        shutil.rmtree(home, ignore_errors=True)
        # Without its own pip: some distributions ship ensurepip, which would install it, apart from Python.
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
        pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check"]
        subprocess.run([*pip, "install", "--quiet", "--requirement", REQUIREMENTS], check=True)
        complete.touch()
    return python


def environment():
    """This environment without anything that would lead boto3 elsewhere."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
    return kept | {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull, "NO_PROXY": "127.0.0.1"}


@contextlib.contextmanager
def process(command, log):
    """A process that ends with the block."""
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment())
    try:
        yield running
    finally:
        running.terminate()
        try:
            running.wait(timeout=10)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()


@contextlib.contextmanager
def simulator(binary, log):
    """A simulator in which a state lasts an hour, unless the clock is moved."""
    hour = ["--pending-seconds", "3600", "--submitted-seconds", "3600", "--job-seconds", "3600"]
    with process([binary, *hour], log) as running:
        url = running.stdout.readline().strip()
        if not url:
            raise SystemExit(f"{binary} did not start; see {log.name}")
        yield url


@contextlib.contextmanager
def moto(log):
    """A moto server."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with process([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], log) as running:
        deadline = time.monotonic() + START_SECONDS
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        while True:
            try:
                opener.open(f"{url}/moto-api/data.json", timeout=5).close()
                break
            except (urllib.error.URLError, ConnectionError) as error:
                if running.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"moto did not start: {error}; see {log.name}") from error
                time.sleep(0.1)
        yield url


def compare(path, left, right):
    """The smallest places in which two values differ; a reply and a refusal differ as a whole."""
    if isinstance(left, dict) and isinstance(right, dict) and ("error" in left) == ("error" in right):
        for key in sorted(left.keys() | right.keys()):
            yield from compare([*path, key], left.get(key, ABSENT), right.get(key, ABSENT))
    elif isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        for index, (one, other) in enumerate(zip(left, right)):
            yield from compare([*path, str(index)], one, other)
    elif left != right:
        yield {"step": path[0], "path": "/".join(path[1:]), "simulator": left, "moto": right}


def place(difference):
    return difference["step"], difference["path"]


def show(title, differences):
    print(f"\n{title}:")
    for difference in differences:
        print(f"  {difference['step']} {difference['path']}")
        for side in ("simulator", "moto"):
            print(f"    {side:9} {json.dumps(difference[side], sort_keys=True)}")


def judge(found, known):
    """Whether the differences are those that are known, with reasons."""
    facts = [{key: value for key, value in one.items() if key != "reason"} for one in known]
    new = [one for one in found if one not in facts]
    gone = [one for one in facts if one not in found]
    silent = [one for one in known if not one.get("reason")]
    if new:
        show("differences that differences.json doesn't have", new)
    if gone:
        show("differences of differences.json that are not there any more", gone)
    if silent:
        show("differences without a reason", silent)
    return not (new or gone or silent)


def main():
    parser = argparse.ArgumentParser(description="Compares the simulator with moto.")
    parser.add_argument("--simulator", required=True, type=pathlib.Path, help="the emr-simulator binary")
    parser.add_argument("--write", action="store_true", help="write the differences instead of judging them")
    arguments = parser.parse_args()
    if not has_requirements():
        if os.environ.get(INNER):
            raise SystemExit(f"{sys.executable} lacks what requirements.txt names; remove its folder and try again")
        python = cached_python()
        os.execve(python, [python, __file__, *sys.argv[1:]], {**os.environ, INNER: "1"})
    with tempfile.NamedTemporaryFile("w", suffix=".log", prefix="conformance-", delete=False) as log:
        transcripts = []
        for server in (simulator(arguments.simulator.resolve(), log), moto(log)):
            with server as url:
                command = [sys.executable, HERE / "emr_containers.py", url]
                driven = subprocess.run(command, stdout=subprocess.PIPE, env=environment(), text=True)
            if driven.returncode != 0:
                raise SystemExit(f"the script failed against {url}; the servers' log is {log.name}")
            transcripts.append(json.loads(driven.stdout))
    os.unlink(log.name)
    found = list(compare([], *transcripts))
    known = json.loads(DIFFERENCES.read_text()) if DIFFERENCES.exists() else []
    if arguments.write:
        reasons = {place(one): one.get("reason", "") for one in known}
        written = [one | {"reason": reasons.get(place(one), "")} for one in found]
        DIFFERENCES.write_text(json.dumps(written, indent=2) + "\n")
        print(f"wrote {len(written)} differences; fill in the reasons that are empty")
        return 0
    if judge(found, known):
        print(f"{len(transcripts[0])} steps compared: the {len(found)} differences are the known ones")
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
