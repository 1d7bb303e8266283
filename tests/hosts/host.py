#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""host.py NAME FOLDER: the first process of a host of network.py, which runs it in namespaces of
its own. Makes the host look like one (name, /etc/hosts, /dev/shm), waits for its network, and then
runs commands that come over TCP, as an ssh server would. FOLDER is the host's own; beside it lies
the file `hosts`. agent.py is the client. Nothing is asked of who connects: the network is one that
only this test can reach."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

PORT = 2222


def mount(*arguments):
    subprocess.run(["mount", *map(str, arguments)], check=True)


def furnish(name, folder):
    socket.sethostname(name)
    mount("--bind", folder.parent / "hosts", "/etc/hosts")
    mount("-t", "tmpfs", "-o", "mode=1777", "tmpfs", "/dev/shm")
    # Where GlusterFS keeps its state, whatever the machine has there.
    mount("-t", "tmpfs", "tmpfs", "/run")
    os.mkdir("/run/gluster")
    for place in ("/var/lib/glusterd", "/var/log/glusterfs"):
        own = folder / pathlib.Path(place).name
        own.mkdir(parents=True)
        if os.path.isdir(place):
            mount("--bind", own, place)
    os.mkdir("/dev/shm/tmp")
    os.environ["TMPDIR"] = "/dev/shm/tmp"


def listen(name):
    """Waits for the network: the other side gives this host its address."""
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    for _ in range(500):
        try:
            server.bind((socket.gethostbyname(name), PORT))
            server.listen(64)
            return server
        except OSError:
            time.sleep(0.02)
    sys.exit(f"{name} has no network")


def serve(connection):
    """One command: the first line is a token, the rest up to a NUL the command. Its output, then
    a line of the token and the exit status."""
    received = b""
    while not received.endswith(b"\0"):
        part = connection.recv(65536)
        if not part:
            return
        received += part
    token, command = received[:-1].split(b"\n", 1)
    done = subprocess.run(["bash", "-c", command], stdin=subprocess.DEVNULL, stdout=connection,
                          stderr=connection, check=False)
    connection.sendall(b"\n" + token + b" %d\n" % done.returncode)


def reap(*_):
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def main():
    name, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    furnish(name, folder)
    server = listen(name)
    signal.signal(signal.SIGCHLD, reap)
    while True:
        connection, _ = server.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            server.close()
            try:
                serve(connection)
            finally:
                os._exit(0)
        connection.close()


main()
