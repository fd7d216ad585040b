#!/usr/bin/env python3
"""Serves moto on a loopback port, for the suites.

Usage: python3 tests/conformance/moto_server.py PORT

The packages are those of requirements.txt, installed as run.py does it.
"""

import os
import sys

from run import cached_python, environment, has_requirements


def main():
    python = sys.executable if has_requirements() else cached_python()
    command = [python, "-m", "moto.server", "-H", "127.0.0.1", "-p", sys.argv[1]]
    os.execve(command[0], [str(part) for part in command], environment())


if __name__ == "__main__":
    main()
