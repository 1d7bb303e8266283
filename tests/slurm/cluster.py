# SPDX-License-Identifier: Apache-2.0
"""A private Slurm on one machine, without systemd: munged, slurmctld and a slurmd for each node, on
loopback, with a key, ports and folders of its own. Runs inside enter.sh. Each node has a host name,
/dev/shm and process numbers of its own, so that MPI takes nodes for what they are; killing a node's
first process takes all of it down, as if the power went."""

import os
import shlex
import shutil
import signal
import subprocess
import time

from own_folder import own_folder

HEAD = "head"
PORT = 16817
# A job that is put back into the queue begins once its old credential is void: Slurm waits for this
# and a second more. Below 5 s Slurm takes its default, 120 s.
CREDENTIAL_S = 10
KILL_WAIT_S = 5
GRACE_S = 20

CONFIGURATION = """\
ClusterName=allshard
SlurmctldHost={head}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock,cred_expire={credential}
CredType=cred/munge
SlurmctldPort={port}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmdSpoolDir={folder}/spool/%n
StateSaveLocation={folder}/state
SlurmctldDebug=info
SlurmdDebug=info
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=1,batch_sched_delay=0,sched_min_interval=0
MpiDefault=none
ReturnToService=2
SwitchType=switch/none
SlurmctldTimeout=30
SlurmdTimeout=5
InactiveLimit=0
MinJobAge=300
KillWait={kill_wait}
OverTimeLimit=0
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmdParameters=config_overrides
TmpFS={folder}/tmp/%n
TaskProlog={folder}/task-prolog
MailProg=/bin/true
"""


class NotHere(Exception):
    """This machine cannot have such a Slurm; says why."""


def wait_until(look, what, timeout=60, step=0.05):
    end = time.monotonic() + timeout
    while True:
        seen = look()
        if seen:
            return seen
        if time.monotonic() > end:
            raise AssertionError(f"waited {timeout} s for {what() if callable(what) else what}")
        time.sleep(step)


class Node:
    """A slurmd with all that it starts."""

    def __init__(self, name, folder):
        self.name = name
        self.folder = folder
        self.process = None

    def start(self):
        for part in ("spool", "tmp"):
            (self.folder / part / self.name).mkdir(parents=True, exist_ok=True)
        # The shell is the node's first process: it takes in orphans, which slurmd does not.
        script = (f"hostname {self.name} && mount -t tmpfs none /dev/shm && "
                  f"slurmd -D -N {self.name} -f \"$SLURM_CONF\" & wait")
        with open(self.folder / "log" / self.name, "ab") as log:
            self.process = subprocess.Popen(
                ["unshare", "--uts", "--ipc", "--mount", "--pid", "--fork", "--kill-child",
                 "--mount-proc", "sh", "-c", script], stdin=subprocess.DEVNULL, stdout=log,
                stderr=log)

    def kill(self):
        """As if the power went."""
        self.process.kill()
        self.process.wait()


class Cluster:
    """Partitions: {name: ([names of nodes], "more options")}; the first is the default one."""

    def __init__(self, parent, partitions, prolog="", cpus=64):
        self.folder = own_folder(parent, "slurm")
        self.nodes = {}
        self.daemons = []
        self.partitions = partitions
        self.cpus = cpus
        for names, _ in partitions.values():
            for name in names:
                self.nodes.setdefault(name, Node(name, self.folder))
        os.environ["SLURM_CONF"] = str(self.folder / "slurm.conf")
        try:
            self.configure(prolog)
            self.start()
        except BaseException:
            self.stop()
            raise

    def configure(self, prolog):
        for part in ("spool", "state", "log", "munge", "tmp"):
            (self.folder / part).mkdir()
        (self.folder / "munge").chmod(0o700)
        key = self.folder / "munge" / "key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        script = self.folder / "task-prolog"
        script.write_text(f"#!/bin/sh\n{prolog}\n")
        script.chmod(0o755)
        text = CONFIGURATION.format(
            head=HEAD, folder=self.folder, port=PORT, credential=CREDENTIAL_S,
            kill_wait=KILL_WAIT_S)
        for i, name in enumerate(self.nodes, 1):
            text += (f"NodeName={name} NodeHostname={name} NodeAddr=127.0.0.1 Port={PORT + 100 + i} "
                     f"CPUs={self.cpus} RealMemory=2000 State=UNKNOWN\n")
        for i, (name, (nodes, options)) in enumerate(self.partitions.items()):
            text += (f"PartitionName={name} Nodes={','.join(nodes)} MaxTime=INFINITE State=UP "
                     f"Default={'NO' if i else 'YES'} {options}\n")
        (self.folder / "slurm.conf").write_text(text)

    def daemon(self, name, *command):
        with open(self.folder / "log" / name, "ab") as log:
            self.daemons.append(subprocess.Popen([str(c) for c in command], stdout=log, stderr=log,
                                                 stdin=subprocess.DEVNULL))

    def start(self):
        # MPI on several nodes wants a network that is not loopback; Slurm has loopback.
        for command in (f"hostname {HEAD}", "ip link set lo up",
                        "ip link add a0 type veth peer name a1", "ip link set a1 up",
                        "ip link set a0 up", "ip addr add 10.78.0.1/24 dev a0",
                        "mount -t tmpfs none /dev/shm"):
            done = subprocess.run(shlex.split(command), capture_output=True, text=True, check=False)
            if done.returncode:
                raise NotHere(f"{command}: {done.stderr.strip()}")
        munge = self.folder / "munge"
        self.daemon("munged", "munged", "--foreground", "--force", f"--key-file={munge}/key",
                    f"--socket={self.folder}/munge.sock", f"--pid-file={munge}/pid",
                    f"--log-file={munge}/log", f"--seed-file={munge}/seed", "--num-threads=2")
        wait_until((self.folder / "munge.sock").exists, "munged", 10)
        self.daemon("slurmctld", "slurmctld", "-D", "-f", self.folder / "slurm.conf")
        for node in self.nodes.values():
            node.start()
        wait_until(lambda: self.states().count("idle") == len(self.nodes),
                   lambda: f"idle nodes; there are {self.states()}\n{self.logs()}", 30)

    def states(self):
        done = subprocess.run(["sinfo", "-h", "-N", "-o", "%N %T"], capture_output=True, text=True,
                              check=False)
        return [state for _, state in {tuple(line.split()) for line in done.stdout.splitlines()}]

    def logs(self):
        return "\n".join(f"--- {p.name}\n{p.read_text(errors='replace')[-1500:]}"
                         for p in sorted((self.folder / "log").iterdir()))

    def stop(self):
        """The namespaces would end all of it with the test in any case."""
        for node in self.nodes.values():
            if node.process:
                node.kill()
        for process in reversed(self.daemons):
            process.send_signal(signal.SIGKILL)
            process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def ask(*command, check=True, timeout=30):
    """Output of a command of Slurm."""
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False,
                          timeout=timeout)
    if check and done.returncode:
        raise AssertionError(f"{shlex.join(map(str, command))}: {done.stderr.strip()}")
    return done.stdout.strip()


ALIVE = ("PENDING", "CONFIGURING", "RUNNING", "SUSPENDED", "COMPLETING", "REQUEUED", "STOPPED",
         "RESIZING", "SIGNALING")


class Job:
    """A job of sbatch, which its test watches."""

    def __init__(self, *command, env=None):
        done = subprocess.run(["sbatch", "--parsable", *map(str, command)], capture_output=True,
                              text=True, check=False, env=env, timeout=30)
        if done.returncode:
            raise AssertionError(f"sbatch: {done.stderr.strip()}")
        self.id = done.stdout.strip().split(";")[0]
        self.seen = []

    def state(self):
        # Of an array, those that run or wait stand before those that have ended.
        try:
            lines = ask("squeue", "-h", "-j", self.id, "-t", "all", "-o", "%T %r %R",
                        check=False).splitlines()
        except subprocess.TimeoutExpired:  # an answer got lost: the next one tells
            lines = self.seen[-1:] or ["PENDING"]
        state = next((line for line in lines if line.split()[0] in ALIVE),
                     lines[0] if lines else "")
        if state and (not self.seen or self.seen[-1] != state):
            self.seen.append(state)
        return state.split()[0] if state else "GONE"

    def restarts(self):
        """How often it was put back into the queue."""
        for word in ask("scontrol", "-o", "show", "job", self.id).split():
            if word.startswith("Restarts="):
                return int(word.partition("=")[2])
        return 0

    def running(self):
        """Its id, or that of the task of an array that runs."""
        return ask("squeue", "-h", "-j", self.id, "-t", "RUNNING", "-o", "%A")

    def ended(self):
        return self.state() not in ALIVE

    def cancel(self):
        ask("scancel", self.id, check=False)
