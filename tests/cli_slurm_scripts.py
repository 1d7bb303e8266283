#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 120
"""The job scripts of slurm/ without Slurm: stubs on PATH (srun, mpirun, squeue, scontrol, scancel,
qsub, allshard) write down how they were called, and do what a test wants of them."""

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

SCRIPTS = pathlib.Path(os.environ["ALLSHARD_SOURCE_DIR"]) / "slurm"
JOB = {"SLURM_JOB_ID": "17", "SLURM_JOB_NAME": "run", "SLURM_NTASKS": "4"}
# What a stub does beside telling that it was called: by default nothing.
BEHAVIOUR = {
    "srun": 'case " $* " in *" --mpi=list "*) echo "${PMI:-pmix}"; exit;; esac\n',
    "squeue": 'echo "${STATE-RUNNING None}"',
}


class Scripts(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="allshard-scripts-"))
        self.addCleanup(shutil.rmtree, self.folder)
        self.calls_file = self.folder / "calls"
        (self.folder / "bin").mkdir()
        (self.folder / "root").mkdir()
        for name in ("srun", "mpirun", "squeue", "scontrol", "scancel", "qsub", "allshard"):
            self.stub(name)
        self.tools()

    def tools(self):
        """Only these and the stubs are on PATH: a Slurm of this machine must not be asked."""
        for name in ("bash", "date", "timeout", "grep", "sleep", "id", "rm", "mkdir", "touch"):
            (self.folder / "bin" / name).symlink_to(shutil.which(name))

    def stub(self, name, text=""):
        path = self.folder / "bin" / name
        path.write_text(f'#!/bin/bash\necho "{name} $*" >>"{self.calls_file}"\n'
                        f"{BEHAVIOUR.get(name, '')}\n{text}\n")
        path.chmod(0o755)

    def without(self, name):
        (self.folder / "bin" / name).unlink()

    def calls(self, name):
        """How a stub was called, in order."""
        if not self.calls_file.exists():
            return []
        lines = self.calls_file.read_text().splitlines()
        return [line.partition(" ")[2] for line in lines
                if line.split(" ")[0] == name and "--mpi=list" not in line]

    def environment(self, more):
        own = {"PATH": str(self.folder / "bin"), "SLURM_SUBMIT_DIR": str(SCRIPTS),
               "HOME": str(self.folder), **JOB}
        return {**own, **{k: str(v) for k, v in more.items()}}

    def begin(self, *command, **more):
        return subprocess.Popen([shutil.which("bash"), *map(str, command)], text=True,
                                env=self.environment(more), cwd=self.folder, stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                start_new_session=True)

    def end(self, job, status):
        try:
            self.text = job.communicate(timeout=20)[0]
        except subprocess.TimeoutExpired:
            os.killpg(job.pid, signal.SIGKILL)
            self.fail(f"hangs: {job.communicate()[0]}")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(job.pid, signal.SIGKILL)  # what stubs left
        self.assertEqual(job.returncode, status, self.text)
        return self.text

    def run_script(self, *command, status=0, **more):
        return self.end(self.begin(*command, **more), status)

    def train(self, status=0, script="train.sbatch", **more):
        return self.run_script(SCRIPTS / script, self.folder / "root", "./program", "--steps", "9",
                               status=status, **more)

    def signalled(self, *signals, status, script="train.sbatch", **more):
        """The job gets signals once the ranks run."""
        job = self.begin(SCRIPTS / script, self.folder / "root", "./program", **more)
        self.wait_for_ranks(job)
        for number in signals:
            os.kill(job.pid, number)
            time.sleep(0.1)
        return self.end(job, status)

    def wait_for_ranks(self, job):
        end = time.monotonic() + 30
        while not (self.folder / "ready").exists():
            if time.monotonic() > end or job.poll() is not None:
                self.end(job, "ranks that run")
            time.sleep(0.01)

    def ranks(self, then, name="srun"):
        """Ranks that run until a signal comes. In pieces: bash looks at it between two."""
        self.stub(name, f'n=0\ntrap \'echo "{name}-got USR2" >>"{self.calls_file}"; n=$((n + 1))\' USR2\n'
                        f'touch "{self.folder}/ready"\n'
                        f"for i in {{1..1000}}; do sleep 0.02; {then}; done")

    # ---- exit status ----

    def test_a_run_that_has_finished_is_not_put_back(self):
        text = self.train()
        self.assertEqual(self.calls("scontrol"), [])
        self.assertEqual(len(self.calls("srun")), 1)
        self.assertIn("finished", text)

    def test_75_puts_the_job_back(self):
        self.stub("srun", "exit 75")
        text = self.train(status=75)
        self.assertEqual(self.calls("scontrol"), ["requeue 17"])
        self.assertEqual(len(self.calls("srun")), 1)
        self.assertIn("for the 1. time", text)

    def test_a_failure_is_not_tried_again(self):
        for status in (1, 2, 74, 76, 126, 127, 128):
            self.stub("srun", f"exit {status}")
            self.assertIn(f"status {status}", self.train(status=status))
        self.assertEqual(self.calls("scontrol"), [])
        self.assertEqual(len(self.calls("srun")), 7)

    def test_the_number_of_requeues_has_a_limit(self):
        self.stub("srun", "exit 75")
        for count, most, back in ((99, None, True), (100, None, False), (1, 2, True), (2, 2, False),
                                  (3, 2, False), (0, 0, False), (4, "many", True), (100, "-1", False)):
            self.calls_file.write_text("")
            more = {"SLURM_RESTART_COUNT": count}
            if most is not None:
                more["ALLSHARD_REQUEUES"] = most
            text = self.train(status=75, **more)
            self.assertEqual(bool(self.calls("scontrol")), back, (count, most, text))
            if not back:
                self.assertIn("scontrol requeue 17", text)
            if most in ("many", "-1"):
                self.assertIn(f"ALLSHARD_REQUEUES={most} is no number", text)

    def test_killed_ranks_begin_again_in_the_job(self):
        self.stub("srun", f'[ "$(grep -c "^srun.*program" "{self.calls_file}")" -gt 2 ] || kill -KILL $$')
        text = self.train()
        self.assertEqual(len(self.calls("srun")), 3)
        self.assertIn("killed (137): started again", text)

    def test_killed_ranks_do_not_begin_again_for_ever(self):
        self.stub("srun", "kill -KILL $$")
        for retries, starts in ((None, 4), (0, 1), (1, 2)):
            self.calls_file.write_text("")
            more = {} if retries is None else {"ALLSHARD_RETRIES": retries}
            self.train(status=137, **more)
            self.assertEqual(len(self.calls("srun")), starts)
        self.assertEqual(self.calls("scontrol"), [])

    def test_a_job_that_cannot_be_put_back_says_how(self):
        self.stub("srun", "exit 75")
        self.stub("scontrol", "exit 1")
        self.assertIn("from a login node: scontrol requeue 17", self.train(status=75))
        self.without("scontrol")
        self.assertIn("from a login node: scontrol requeue 17", self.train(status=75))

    def test_a_task_of_an_array_has_its_own_id(self):
        self.stub("srun", "exit 75")
        self.train(status=75, SLURM_ARRAY_JOB_ID=12, SLURM_ARRAY_TASK_ID=3)
        self.assertEqual(self.calls("scontrol"), ["requeue 12_3"])
        self.assertIn("-j 12_3", self.calls("squeue")[0])

    def test_who_ended_the_job_decides_whether_it_is_put_back(self):
        self.stub("srun", "exit 75")
        for state, back in (("RUNNING None", True), ("RUNNING Prolog", True),
                            ("SIGNALING None", True),
                            ("COMPLETING TimeLimit", True), ("COMPLETING None", False),
                            ("COMPLETING NodeDown", False), ("PENDING BeginTime", False),
                            ("CANCELLED None", False), ("", False)):
            self.calls_file.write_text("")
            text = self.train(status=75, STATE=state)
            self.assertEqual(bool(self.calls("scontrol")), back, (state, text))

    def test_without_an_answer_of_squeue_a_job_that_got_term_stays(self):
        for broken in ("exit 1", "missing"):
            self.stub("squeue", broken)
            if broken == "missing":
                self.without("squeue")
            self.stub("srun", "exit 75")
            self.calls_file.write_text("")
            self.train(status=75)
            self.assertEqual(self.calls("scontrol"), ["requeue 17"])
            self.calls_file.write_text("")
            self.ranks('[ "$n" = 0 ] || exit 75')
            self.assertIn("somebody cancelled", self.signalled(signal.SIGTERM, status=75))
            self.assertEqual(self.calls("scontrol"), [])
            (self.folder / "ready").unlink()

    # ---- signals ----

    def test_signals_reach_the_ranks_as_usr2(self):
        for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM):
            self.calls_file.write_text("")
            self.ranks('[ "$n" = 0 ] || exit 75')
            self.signalled(number, status=75)
            self.assertEqual(self.calls("srun-got"), ["USR2"], number)
            self.assertEqual(self.calls("scontrol"), ["requeue 17"])
            (self.folder / "ready").unlink()

    def test_every_signal_is_handed_on_and_none_ends_the_wait(self):
        self.ranks('[ "$n" -lt 4 ] || exit 75')
        self.signalled(*[signal.SIGUSR2, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2], status=75)
        self.assertEqual(self.calls("srun-got"), ["USR2"] * 4)

    def test_ranks_that_finish_in_spite_of_a_signal_have_finished(self):
        self.ranks('[ "$n" = 0 ] || exit 0')
        self.signalled(signal.SIGUSR2, status=0)
        self.assertEqual(self.calls("scontrol"), [])

    def test_ranks_that_fail_after_a_signal_have_failed(self):
        self.ranks('[ "$n" = 0 ] || exit 5')
        self.signalled(signal.SIGUSR2, status=5)
        self.assertEqual(self.calls("scontrol"), [])

    def test_ranks_that_die_of_the_signal_are_put_back_not_started_again(self):
        self.stub("srun", f'touch "{self.folder}/ready"\nexec sleep 60')
        text = self.signalled(signal.SIGUSR2, status=75)
        self.assertIn("killed (140) after USR2", text)
        self.assertEqual(len(self.calls("srun")), 1)
        self.assertEqual(self.calls("scontrol"), ["requeue 17"])

    def test_ranks_that_are_killed_after_the_signal_are_put_back(self):
        self.ranks('[ "$n" = 0 ] || kill -KILL $$')
        self.signalled(signal.SIGUSR2, status=75)
        self.assertEqual(self.calls("scontrol"), ["requeue 17"])

    def test_a_signal_before_the_ranks_is_not_lost(self):
        # It comes while the script still asks what srun speaks.
        self.stub("srun", "exit 0")
        path = self.folder / "bin" / "srun"
        path.write_text(path.read_text().replace(
            "*) echo", f'*) touch "{self.folder}/ready"; sleep 0.5; echo'))
        self.signalled(signal.SIGUSR2, status=75)
        self.assertEqual(self.calls("srun"), [])
        self.assertEqual(self.calls("scontrol"), ["requeue 17"])

    def test_another_signal_for_the_ranks(self):
        self.stub("srun", f'trap "exit 75" HUP\ntouch "{self.folder}/ready"\n'
                          "for i in {1..1000}; do sleep 0.02; done")
        self.signalled(signal.SIGUSR2, status=75, ALLSHARD_SIGNAL="HUP")

    # ---- launchers and hooks ----

    def test_srun_gets_the_hooks_and_the_program(self):
        self.train(SLURM_CPUS_PER_TASK=3)
        words = self.calls("srun")[0].split()
        self.assertEqual(words[-3:], ["./program", "--steps", "9"])
        for word in ("--mpi=pmix", "--kill-on-bad-exit=1", f"--task-prolog={SCRIPTS}/task-prolog.sh",
                     f"--task-epilog={SCRIPTS}/task-epilog.sh"):
            self.assertIn(word, words)
        self.assertEqual(self.calls("mpirun"), [])

    def test_srun_takes_over_the_processors_of_a_task(self):
        self.stub("srun", 'echo "cpus ${SRUN_CPUS_PER_TASK:-none} root $ALLSHARD_ROOT"')
        self.assertIn(f"cpus 3 root {self.folder}/root", self.train(SLURM_CPUS_PER_TASK=3))
        self.assertIn("cpus none", self.train())

    def test_mpirun_where_srun_does_not_speak_pmix(self):
        self.stub("allshard", 'case $1 in latest) echo "/ckpt a/checkpoint-7" ;; esac')
        self.stub("mpirun", 'echo "latest=$ALLSHARD_LATEST patience='
                            '$OMPI_MCA_odls_base_sigkill_timeout"; exit 75')
        text = self.train(status=75, PMI="pmi2")
        self.assertIn("latest=/ckpt a/checkpoint-7 patience=10", text)
        self.assertEqual(self.calls("mpirun"), ["-n 4 ./program --steps 9"])
        self.assertEqual(self.calls("allshard")[-1], "verify /ckpt a/checkpoint-7")
        self.assertEqual(self.calls("scontrol"), ["requeue 17"])

    def test_mpirun_gets_the_signal(self):
        self.ranks('[ "$n" = 0 ] || exit 75', name="mpirun")
        self.signalled(signal.SIGTERM, status=75, ALLSHARD_LAUNCHER="mpirun")
        self.assertEqual(self.calls("mpirun-got"), ["USR2"])

    def test_a_launcher_that_is_none(self):
        self.assertIn("ALLSHARD_LAUNCHER=qrun", self.train(status=2, ALLSHARD_LAUNCHER="qrun"))

    def test_wrong_usage(self):
        for script in ("train.sbatch", "train-array.sbatch", "train-chain.sbatch"):
            for words in ([], [self.folder]):
                self.assertIn("usage: sbatch", self.run_script(SCRIPTS / script, *words, status=2))

    def test_requeue_sh_is_found(self):
        for place in (self.folder / "jobs", self.folder / "jobs" / "slurm",
                      self.folder / "share" / "allshard" / "slurm", self.folder / "else where"):
            shutil.copytree(SCRIPTS, place)
            self.train(SLURM_SUBMIT_DIR=self.folder / "jobs", ALLSHARD_SLURM=
                       place if place.name == "else where" else "")
            self.assertIn(f"--task-prolog={place}/", self.calls("srun")[-1].replace("bin/../", ""))
            shutil.rmtree(place)
        self.assertIn("requeue.sh", self.train(status=3, SLURM_SUBMIT_DIR=self.folder / "jobs"))

    # ---- array, chain, PBS ----

    def test_tasks_of_an_array_go_on_after_each_other(self):
        own = {"script": "train-array.sbatch", "SLURM_ARRAY_JOB_ID": 12, "SLURM_ARRAY_TASK_ID": 3}
        self.stub("srun", "exit 75")
        self.assertIn("next task", self.train(**own))
        self.assertEqual(self.calls("scancel"), [])
        for status in (0, 5):
            self.calls_file.write_text("")
            self.stub("srun", f"exit {status}")
            self.train(status=status, **own)
            self.assertEqual(self.calls("scancel"), ["--state=PENDING 12"])
        self.without("scancel")
        self.train(status=5, **own)
        self.assertEqual(self.calls("scontrol"), [])

    def test_jobs_of_a_chain_go_on_after_each_other(self):
        own = {"script": "train-chain.sbatch"}
        self.stub("srun", "exit 75")
        self.assertIn("next job named run", self.train(**own))
        self.assertEqual(self.calls("scancel"), [])
        self.stub("srun", "exit 4")
        self.train(status=4, **own)
        self.assertRegex(self.calls("scancel")[0], r"^--state=PENDING --user=\S+ --name=run$")
        self.train(status=4, SLURM_JOB_NAME="", **own)
        self.assertEqual(len(self.calls("scancel")), 1)
        self.assertEqual(self.calls("scontrol"), [])

    def pbs(self, status, **more):
        own = {"ALLSHARD_ROOT": self.folder / "root", "ALLSHARD_COMMAND": "./program --steps 9",
               "PBS_JOBID": "5.server", "PBS_O_WORKDIR": SCRIPTS, "SLURM_JOB_ID": "",
               "SLURM_NTASKS": "", **more}
        return self.begin(SCRIPTS / "train.pbs", **own), status

    def test_a_job_of_pbs_sends_in_its_successor(self):
        self.stub("qsub", 'echo "count=$ALLSHARD_COUNT"')
        self.stub("mpirun", "exit 75")
        self.assertIn("count=4 goes on", self.end(*self.pbs(75, ALLSHARD_COUNT=3)))
        self.assertEqual(self.calls("qsub"), [f"-V -W depend=afterany:5.server {SCRIPTS}/train.pbs"])
        self.assertEqual(self.calls("mpirun"), ["./program --steps 9"])
        for status in (0, 1):
            self.stub("mpirun", f"exit {status}")
            self.end(*self.pbs(status))
        self.stub("mpirun", "exit 75")
        self.end(*self.pbs(75, ALLSHARD_COUNT=2, ALLSHARD_REQUEUES=2))
        self.assertEqual(len(self.calls("qsub")), 1)
        self.stub("qsub", "exit 1")
        self.assertIn("To go on: qsub", self.end(*self.pbs(75)))
        self.assertIn("usage: qsub", self.end(*self.pbs(2, ALLSHARD_COMMAND="")))

    def test_a_deleted_job_of_pbs_stays_deleted(self):
        for number, back in ((signal.SIGTERM, False), (signal.SIGUSR2, True)):
            self.ranks('[ "$n" = 0 ] || exit 75', name="mpirun")
            job, status = self.pbs(75)
            self.wait_for_ranks(job)
            os.kill(job.pid, number)
            self.end(job, status)
            self.assertEqual(bool(self.calls("qsub")), back)
            (self.folder / "ready").unlink()

    # ---- hooks ----

    def prolog(self, **more):
        return self.run_script(SCRIPTS / "task-prolog.sh", **more).splitlines()

    def test_the_prolog_tells_the_newest_good_checkpoint(self):
        self.stub("allshard", 'echo "/ckpt/checkpoint-7"')
        self.assertEqual(self.prolog(ALLSHARD_ROOT="/ckpt"),
                         ["export ALLSHARD_LATEST=/ckpt/checkpoint-7"])
        self.assertEqual(self.calls("allshard"), ["latest /ckpt"])
        self.assertEqual(self.prolog(), ["unset ALLSHARD_LATEST"])
        self.stub("allshard", "echo nothing; exit 1")
        self.assertEqual(self.prolog(ALLSHARD_ROOT="/ckpt"), ["unset ALLSHARD_LATEST"])
        self.without("allshard")
        self.assertEqual(self.prolog(ALLSHARD_ROOT="/ckpt"), ["unset ALLSHARD_LATEST"])

    def staging(self):
        place = self.folder / "staging"
        shutil.rmtree(place, ignore_errors=True)
        for name in ("allshard-15", "allshard-16", "allshard-17", "allshard-18", "allshard-x",
                     "allshard-", "other-15", "elsewhere"):
            (place / name).mkdir(parents=True)
            (place / name / "data").write_text("data")
        (place / "allshard-14").symlink_to(place / "elsewhere")
        (place / "allshard-13").write_text("a file")
        return place

    def test_the_prolog_removes_staging_of_jobs_that_are_over(self):
        squeue = "printf '%s\\n' '115 RUNNING' '16 RUNNING' '18 COMPLETED' '17 RUNNING'"
        self.stub("squeue", squeue)
        place = self.staging()
        before = {p.name for p in place.iterdir()}
        lines = self.prolog(ALLSHARD_STAGING=place)
        self.assertIn(f"export ALLSHARD_STAGED={place}/allshard-17", lines)
        self.assertEqual(before - {p.name for p in place.iterdir()}, {"allshard-15", "allshard-18"})
        self.assertTrue((place / "elsewhere" / "data").exists())
        self.assertTrue(all(line.split()[0] in ("export", "unset", "print") for line in lines), lines)

    def test_the_prolog_removes_nothing_that_it_is_not_sure_of(self):
        for squeue, more in (("exit 1", {}), ("exit 0", {"SLURM_LOCALID": 1})):
            self.stub("squeue", squeue)
            place = self.staging()
            before = {p.name for p in place.iterdir()}
            self.prolog(ALLSHARD_STAGING=place, **more)
            self.assertEqual(before, {p.name for p in place.iterdir()})
        self.assertEqual(self.prolog(ALLSHARD_STAGING=self.folder / "none"), ["unset ALLSHARD_LATEST"])

    def epilog(self, status=0, **more):
        self.calls_file.write_text("")
        return self.run_script(SCRIPTS / "task-epilog.sh", status=status,
                               **{"ALLSHARD_ROOT": "/ckpt", **more})

    def test_the_epilog_verifies_and_prunes(self):
        self.stub("allshard", 'case $1 in latest) echo /ckpt/checkpoint-7 ;; prune) echo pruned ;; esac')
        text = self.epilog(ALLSHARD_PRUNE="--keep-last 3 --keep-every 100")
        self.assertIn("/ckpt/checkpoint-7 is good", text)
        self.assertIn("pruned", text)
        self.assertEqual(self.calls("allshard"), [
            "latest /ckpt", "verify /ckpt/checkpoint-7", "prune /ckpt --keep-last 3 --keep-every 100"])
        self.epilog()
        self.assertEqual(len(self.calls("allshard")), 2)
        for more in ({"SLURM_PROCID": 1}, {"ALLSHARD_ROOT": ""}):
            self.epilog(ALLSHARD_PRUNE="--keep-last 3", **more)
            self.assertEqual(self.calls("allshard"), [])

    def test_the_epilog_removes_nothing_beside_a_damaged_checkpoint(self):
        self.stub("allshard", "case $1 in latest) echo /ckpt/checkpoint-7 ;;\n"
                              "verify) echo 'block 3 differs'; exit 1 ;; esac")
        text = self.epilog(status=1, ALLSHARD_PRUNE="--keep-last 3")
        self.assertIn("block 3 differs", text)
        self.assertIn("is damaged", text)
        self.assertEqual([c.split()[0] for c in self.calls("allshard")], ["latest", "verify"])

    def test_the_epilog_has_a_limit(self):
        self.stub("allshard", "case $1 in latest) echo /ckpt/checkpoint-7 ;; verify) exec sleep 60 ;; esac")
        text = self.epilog(ALLSHARD_EPILOG_SECONDS=1, ALLSHARD_PRUNE="--keep-last 3")
        self.assertIn("longer than 1 s", text)
        self.assertIn("status 124", text)

    def test_the_epilog_works_before_the_first_checkpoint(self):
        self.stub("allshard", "[ $1 = prune ] || exit 1")
        self.assertEqual(self.epilog(ALLSHARD_PRUNE="--keep-last 3"), "")

    def test_the_tool_of_the_hooks_is_no_rank(self):
        self.stub("allshard", 'case $1 in latest) echo "${PMIX_RANK-}${SLURM_PROCID-}/ckpt/c-7" ;; esac')
        self.assertEqual(self.prolog(ALLSHARD_ROOT="/ckpt", PMIX_RANK=0, SLURM_PROCID=0),
                         ["export ALLSHARD_LATEST=/ckpt/c-7"])
        self.epilog(PMIX_RANK=0, SLURM_PROCID=0)
        self.assertEqual(self.calls("allshard")[1], "verify /ckpt/c-7")


if __name__ == "__main__":
    unittest.main(verbosity=2)
