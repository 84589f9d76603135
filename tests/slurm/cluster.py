"""A SLURM cluster of one node, made of Debian's packages: munge, controller and node daemon as child processes."""

import os
import random
import re
import resource
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from lofi.recover.processes import Process, others

APT = "apt-get install slurmctld slurmd slurm-client munge"
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "scontrol", "sinfo")
CLIENTS = ("srun", "sbatch", "squeue", "scancel", "scontrol", "sinfo")
SBIN = ("/usr/sbin", "/sbin")  # not on every user's PATH
GPUS = 2
# More than there is: the profile's own requests must fit, and several jobs run at a time.
CPUS, MEMORY = 16, 64_000
PATIENCE = 120.0  # seconds; a busy machine is slow
FIELD = re.compile(r"(\w+)=(\S*)")

CONFIG = """
ClusterName=lofi
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={root}/munge/socket
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool
SlurmctldPidFile={root}/run/slurmctld.pid
SlurmdPidFile={root}/run/slurmd.pid
MailProg=/bin/true
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/builtin
SchedulerParameters=sched_interval=2,batch_sched_delay=0
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc={root}/log/jobs.txt
# memory limits are enforced by looking once a second, without control groups
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
# finished jobs stay visible to squeue
MinJobAge=3600
KillWait=30
SlurmdTimeout=20
ReturnToService=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
# jobs have to ask for it, as on many sites
JobRequeue=0
# the node may claim more than the machine has
SlurmdParameters=config_overrides
DefMemPerCPU=500
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} Gres=gpu:{gpus} State=UNKNOWN
PartitionName=cpu Nodes={host} Default=YES MaxTime=1-0 State=UP
PartitionName=gpu Nodes={host} MaxTime=1-0 State=UP
PartitionName=urgent Nodes={host} MaxTime=1-0 PriorityTier=10 State=UP
"""


def missing() -> list[str]:
    """The programs that are not installed."""
    return [name for name in PROGRAMS if not _found(name)]


def _found(name: str) -> str | None:
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), *SBIN]))


class Cluster:
    """The daemons, and the folder of everything that they write."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="lofi-slurm-")
        self.root = Path(self._folder.name)
        self.host = socket.gethostname().split(".")[0]
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def bin(self) -> Path:
        """First on the PATH of whoever uses the cluster. The plugin takes SLURM_CONF out of a job's environment, so
        the clients here carry it themselves."""
        return self.root / "bin"

    def __enter__(self) -> "Cluster":
        try:
            self._lay_out()
            self._start("munged", "--foreground", f"--key-file={self.root}/etc/munge.key",
                        f"--socket={self.root}/munge/socket", f"--seed-file={self.root}/munge/seed",
                        f"--pid-file={self.root}/run/munged.pid", f"--log-file={self.root}/log/munge.log")  # fmt: skip
            self.wait((self.root / "munge" / "socket").exists, "munge")
            self._start("slurmctld", "-D", "-c", "-f", str(self._conf))
            self.start_node()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        if "slurmctld" in self.daemons:
            subprocess.run([self.bin / "scancel", "--user=root"], capture_output=True, timeout=PATIENCE, check=False)
            time.sleep(0.5)
        for name in ("slurmd", "slurmctld", "munged"):
            self.stop(name, signal.SIGTERM)
        _kill(self._users())  # without control groups SLURM loses those whose parent died
        self._folder.cleanup()

    def lose_node(self) -> None:
        """Kill the node's daemon and all that it has started, as a power cut does, until the controller sees it."""
        self.stop("slurmd")
        # first those that would tell the controller of the end of the others
        users = sorted(self._users(), key=lambda user: not _is_step(user))
        _kill(user for user in users if _is_step(user) or user.in_slurm)
        self.wait(lambda: "down" in self.state(), "lost node")

    def state(self) -> str:
        """The node's."""
        return self.ask("sinfo", "-h", "-p", "cpu", "-o", "%T").strip()

    def start_node(self) -> None:
        """Start the node's daemon and wait until the node takes jobs."""
        self._start("slurmd", "-D", "-c", "-f", str(self._conf), "-N", self.host)
        self.wait(lambda: self.state() in ("idle", "mixed"), "a node")

    def stop(self, name: str, how: signal.Signals = signal.SIGKILL) -> None:
        """End a daemon."""
        daemon = self.daemons.pop(name, None)
        if daemon is None:
            return
        daemon.send_signal(how)
        try:
            daemon.wait(10)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()

    def ask(self, client: str, *arguments: str) -> str:
        """What one of SLURM's commands says."""
        done = subprocess.run([self.bin / client, *arguments], capture_output=True, text=True, check=False)
        return done.stdout if done.returncode == 0 else ""

    def jobs(self, *states: str) -> list[dict[str, str]]:
        """The jobs with these states (all, where none is named), finished ones too, in SLURM's own names."""
        lines = self.ask("scontrol", "--oneliner", "show", "job").splitlines()
        found = [dict(FIELD.findall(line)) for line in lines]
        return [job for job in found if "JobState" in job and (not states or job["JobState"] in states)]

    def wait(self, condition, what: str, patience: float = PATIENCE) -> None:  # type: ignore[no-untyped-def]
        """Until the condition holds."""
        end = time.monotonic() + patience
        while not condition():
            dead = [name for name, daemon in self.daemons.items() if daemon.poll() is not None]
            assert not dead, f"{dead} ended while waiting for {what}\n{self.log()}"
            assert time.monotonic() < end, f"no {what} within {patience:.0f} s\n{self.log()}"
            time.sleep(0.2)

    def log(self) -> str:
        """The end of what every daemon has said."""
        ends = {path.name: path.read_text(errors="replace")[-2000:] for path in sorted(self.root.glob("log/*"))}
        return "\n".join(f"== {name}\n{end}" for name, end in ends.items())

    @property
    def _conf(self) -> Path:
        return self.root / "etc" / "slurm.conf"

    def _lay_out(self) -> None:
        for name in ("bin", "dev", "etc", "log", "munge", "run", "spool", "state"):
            (self.root / name).mkdir()
        self.root.chmod(0o755)  # munge wants its socket to be in reach of everybody
        (self.root / "munge").chmod(0o711)
        key = self.root / "etc" / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o600)
        for gpu in range(GPUS):  # SLURM counts only character devices; these are /dev/null's
            os.mknod(self.root / "dev" / f"gpu{gpu}", stat.S_IFCHR | 0o600, os.makedev(1, 3))
        controller_port, node_port = _free_ports()
        self._conf.write_text(
            CONFIG.format(host=self.host, root=self.root, cpus=CPUS, memory=MEMORY, gpus=GPUS,
                          controller_port=controller_port, node_port=node_port)
        )  # fmt: skip
        gres = f"NodeName={self.host} Name=gpu File={self.root}/dev/gpu[0-{GPUS - 1}]\n"
        (self.root / "etc" / "gres.conf").write_text(gres)
        for name in CLIENTS:
            client = self.bin / name
            client.write_text(f'#!/bin/sh\nSLURM_CONF={self._conf} exec {_found(name)} "$@"\n')
            client.chmod(0o755)

    def _users(self) -> list[Process]:
        """All that has the cluster on its PATH: Snakemake and jobs."""
        return [process for process in others() if any(str(self.root) in word for word in process.environment)]

    def _start(self, name: str, *arguments: str) -> None:
        with open(self.root / "log" / f"{name}.txt", "ab") as log:
            self.daemons[name] = subprocess.Popen(
                [str(_found(name)), *arguments],
                cwd=self.root,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_without_core_file,
            )


def _without_core_file() -> None:
    """A daemon that crashes writes no core file."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _is_step(process: Process) -> bool:
    return process.words[0].startswith("slurmstepd")


def _kill(processes: Iterable[Process]) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process.number, signal.SIGKILL)


def _free_ports() -> tuple[int, int]:
    """Two ports that nobody uses, below those that the system gives to connections, and so to other tests' programs."""
    draw = random.SystemRandom()  # not the generator that a test may have seeded: clusters stand side by side
    while True:
        first = draw.randrange(10_000, 32_000, 2)
        try:
            with socket.socket() as one, socket.socket() as other:
                one.bind(("", first))
                other.bind(("", first + 1))
            return first, first + 1
        except OSError:
            continue
