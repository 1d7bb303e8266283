# SPDX-License-Identifier: Apache-2.0
"""Hosts on one machine: namespaces of their own for network, name, IPC, mounts and processes, on a
bridge, with a shared GlusterFS folder that a further host serves. Runs inside enter.sh. Killing a
host's first process takes the whole host down; its link can be cut."""

import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import time

import agent
from own_folder import own_folder

HERE = pathlib.Path(__file__).resolve().parent
STORE = "store"


class NotHere(Exception):
    """This machine cannot have such a network; says why."""


def run(*command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotHere(f"{shlex.join(map(str, command))}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


class Host:
    def __init__(self, name, number, folder):
        self.name = name
        self.address = f"10.77.0.{number}"
        self.link = f"link{number}"
        # The same after a restart, or the others would go on sending to the card that is gone.
        self.card = f"02:00:00:00:00:{number:02x}"
        self.folder = folder / name
        self.process = None

    def start(self):
        """Up as after a boot: with its network, without mounts and processes of an earlier life."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        self.process = subprocess.Popen(
            ["unshare", "--net", "--uts", "--ipc", "--mount", "--pid", "--fork", "--kill-child",
             "--mount-proc", sys.executable, HERE / "host.py", self.name, self.folder],
            stdin=subprocess.DEVNULL)
        space = f"/proc/{self.process.pid}/ns/net"
        end = time.monotonic() + 10
        while os.readlink(space) == os.readlink("/proc/self/ns/net"):
            if time.monotonic() > end or self.process.poll() is not None:
                raise NotHere(f"{self.name}: no namespaces")
            time.sleep(0.01)
        run("ip", "link", "add", self.link, "type", "veth", "peer", "name", "eth0",
            "address", self.card, "netns", self.process.pid)
        run("ip", "link", "set", self.link, "master", "br0", "up")
        self.inside("ip", "link", "set", "lo", "up")
        self.inside("ip", "addr", "add", f"{self.address}/24", "dev", "eth0")
        self.inside("ip", "link", "set", "eth0", "up")

    def inside(self, *command):
        """Runs a command of this side in the host's network."""
        return run("nsenter", f"--net=/proc/{self.process.pid}/ns/net", *command)

    def ask(self, *command, timeout=60):
        """(output, status) of a command here."""
        words = [str(c) for c in command]
        text, status = agent.ask(self.address, words[0] if len(words) == 1 else shlex.join(words),
                                 timeout)
        return text.decode(errors="replace"), status

    def must(self, *command, timeout=60):
        text, status = self.ask(*command, timeout=timeout)
        if status:
            raise NotHere(f"{self.name}: {shlex.join(map(str, command))}: {text.strip()[-500:]}")
        return text

    def wait_for(self, timeout=10):
        end = time.monotonic() + timeout
        while True:
            try:
                return self.must("true")
            except OSError as fault:
                if time.monotonic() > end or self.process.poll() is not None:
                    raise NotHere(f"{self.name} does not come up: {fault}") from fault
                time.sleep(0.02)

    def kill(self):
        """As if the power went: every process of it is gone, without a word."""
        self.process.kill()
        self.process.wait()
        # Namespaces go when their last process has ended, and the kernel has sent what its
        # connections still had to say, which it does in its own time: a slow line is cut.
        for _ in range(100):
            if subprocess.run(["ip", "link", "show", self.link], capture_output=True,
                              check=False).returncode:
                return
            time.sleep(0.02)
        subprocess.run(["ip", "link", "del", self.link], capture_output=True, check=False)

    def cut(self):
        """As if the cable was pulled: it lives on, alone."""
        run("ip", "link", "set", self.link, "down")

    def join(self):
        run("ip", "link", "set", self.link, "up")

    def slow(self, rate):
        """What leaves the host leaves it slowly, so that a save takes seconds."""
        self.inside("tc", "qdisc", "replace", "dev", "eth0", "root", "tbf", "rate", rate, "burst",
                    "256kb", "latency", "100ms")

    def fast(self):
        self.inside("tc", "qdisc", "del", "dev", "eth0", "root")


class Network:
    """Hosts node1, node2 ... that share the folder `self.shared`."""

    def __init__(self, count, parent):
        if " " in str(HERE):
            raise NotHere(f"mpirun takes no remote shell from {HERE}, for the blank in it")
        self.folder = own_folder(parent, "hosts")
        self.shared = self.folder / "shared"
        self.brick = self.folder / "brick"
        self.nodes = [Host(f"node{i}", i, self.folder) for i in range(1, count + 1)]
        self.store = Host(STORE, 100, self.folder)
        try:
            self.start()
        except BaseException:
            self.stop()
            raise

    def start(self):
        everyone = [*self.nodes, self.store]
        lines = ["127.0.0.1 localhost", *(f"{h.address} {h.name}" for h in everyone)]
        (self.folder / "hosts").write_text("\n".join(lines) + "\n")
        self.shared.mkdir()
        self.brick.mkdir()
        try:
            os.setxattr(self.brick, "trusted.allshard", b"1")
            os.removexattr(self.brick, "trusted.allshard")
        except OSError as fault:
            raise NotHere(f"GlusterFS needs extended attributes: {fault}") from fault
        run("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", "br0", "type", "bridge")
        run("ip", "addr", "add", "10.77.0.254/24", "dev", "br0")
        run("ip", "link", "set", "br0", "up")
        for host in everyone:
            host.start()
        for host in everyone:
            host.wait_for()
        self.start_store()
        for host in self.nodes:
            self.mount(host)

    def start_store(self):
        self.store.must("glusterd")
        gluster = "gluster --mode=script volume"
        commands = [f"create shared {STORE}:{shlex.quote(str(self.brick))} force",
                    # A host that was cut off must not make the others wait 42 s for its locks.
                    "set shared network.ping-timeout 5", "start shared"]
        end = time.monotonic() + 20
        while commands:
            text, status = self.store.ask(f"{gluster} {commands[0]}")
            if status == 0:
                commands.pop(0)
            elif time.monotonic() > end:
                raise NotHere(f"gluster volume {commands[0]}: {text.strip()}")
            else:
                time.sleep(0.1)

    def mount(self, host):
        host.must("glusterfs", "--log-level=WARNING", "-s", STORE, "--volfile-id=shared", self.shared)
        end = time.monotonic() + 20
        place = shlex.quote(str(self.shared))
        while host.ask(f"mountpoint -q {place} && ls {place}")[1]:
            if time.monotonic() > end:
                raise NotHere(f"{host.name}: the GlusterFS folder cannot be mounted")
            time.sleep(0.05)

    def restart(self, host):
        """A killed host comes back."""
        host.start()
        host.wait_for()
        self.mount(host)

    def stop(self):
        for host in [*self.nodes, self.store]:
            if host.process:
                host.process.kill()
                host.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
