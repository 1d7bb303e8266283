#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""agent.py HOST COMMAND...: runs a shell command on a host of network.py and leaves with its
status; mpirun's remote shell (plm_rsh_agent). 255, as ssh has it, if the host does not answer."""

import os
import socket
import sys

PORT = 2222
# A command that says more is broken, and must not fill memory.
MOST = 16 << 20


def ask(host, command, timeout=None):
    """Output (stdout and stderr as they come) and status; OSError if the host is not there or
    goes away, TimeoutError if it says nothing for so many seconds."""
    token = os.urandom(8).hex().encode()
    with socket.create_connection((host, PORT), timeout=5) as connection:
        connection.settimeout(timeout)
        connection.sendall(token + b"\n" + command.encode() + b"\0")
        received = b""
        while True:
            part = connection.recv(65536)
            if not part:
                raise ConnectionResetError(f"{host} went away")
            received += part
            if len(received) > MOST:
                raise OSError(f"{host} says too much: {received[-500:]!r}")
            text, mark, status = received.rpartition(b"\n" + token + b" ")
            if mark and status.endswith(b"\n"):
                return text, int(status)


def main():
    try:
        text, status = ask(sys.argv[1], " ".join(sys.argv[2:]))
    except OSError as fault:
        print(f"agent: {sys.argv[1]}: {fault}", file=sys.stderr)
        return 255
    sys.stdout.buffer.write(text)
    return status


if __name__ == "__main__":
    sys.exit(main())
