"""Runs both sides of a row in turn, each in a process of its own, and takes ratios round by round."""

import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import unlearning
from rows import START, START_GOAL, UNLEARNING, UNLEARNING_GOALS

HERE = Path(__file__).resolve().parent
HELD_TO_AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
"""What keeps PyTorch and its libraries from instructions beyond AVX2."""


class NotMeasured(Exception):
    """Why a row has no figures."""


@dataclass(frozen=True)
class Figure:
    """One line of the table."""

    row: str
    level: str
    """Instruction set that both sides were held to, or the machine's best."""
    quantity: str
    ours: float
    peer: str
    theirs: float | None
    value: float
    """What is compared with the goal: a ratio, a share or a time."""
    goal: float | None
    at_least: bool
    low: float
    high: float
    rounds: int

    @property
    def met(self):
        if self.goal is None:
            return None
        return self.value >= self.goal if self.at_least else self.value <= self.goal


def run(command, environment=None):
    """The JSON that a process prints; raises NotMeasured with its last words where it fails."""
    done = subprocess.run(
        [str(part) for part in command],
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    if done.returncode != 0:
        words = [line for line in done.stderr.strip().splitlines() if line.strip()]
        raise NotMeasured(" ".join(words[-2:]) or f"exit code {done.returncode}")
    return json.loads(done.stdout.strip().splitlines()[-1])


class Bench:
    """Where everything is, and how many rounds are run."""

    def __init__(self, binary, models, rounds, inner, threads):
        self.binary, self.models = Path(binary), Path(models)
        self.rounds, self.inner, self.threads = rounds, inner, threads

    def levels(self):
        """The machine's best instruction set, and AVX2, which most machines have."""
        told = subprocess.run([self.binary, "doctor", "--json"], check=True, stdout=subprocess.PIPE).stdout
        best = json.loads(told)["simd"]
        return ["avx512", "avx2"] if best == "avx512" else [best]

    def model(self, shape):
        """Folder with the random weights of a shape, written once and read by both sides."""
        folder = self.models / f"shape-{shape}"
        if not (folder / "config.json").exists():
            self.models.mkdir(parents=True, exist_ok=True)
            command = [self.binary, "bench", "--shape", shape, "--save", folder]
            subprocess.run([str(part) for part in command], check=True)
        return folder

    def workload(self, row):
        rounds = min(row.rounds, self.inner or row.rounds)
        return ["--batch", row.batch, "--length", row.length, "--rounds", rounds, "--threads", self.threads]

    def ours(self, row, level):
        command = [self.binary, "bench", self.model(row.shape), "--mode", row.mode, "--dtype", row.dtype]
        command += ["--weights", row.weights]
        figures = run(command + self.workload(row) + ["--json", "--quiet"], {"AMEND_SIMD": level})
        if figures["simd"] != level:
            raise NotMeasured(f"amend computed at {figures['simd']}")
        return figures

    def theirs(self, row, peer, level):
        script, *options = peer.command
        command = [sys.executable, HERE / "peer" / script, self.model(row.shape), *options]
        environment = self.peers_environment(level)
        if peer.unlocked:
            environment["LD_PRELOAD"] = str(self.unlock())
        figures = run(command + self.workload(row), environment)
        if peer.unlocked and not figures["times_asked"]:
            raise NotMeasured("this PyTorch's MKL never asked the preloaded library for the processor")
        return figures

    def peers_environment(self, level):
        threads = str(self.threads)
        environment = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "HF_HUB_OFFLINE": "1"}
        return environment | (HELD_TO_AVX2 if level == "avx2" else {})

    def unlock(self):
        """The library that is preloaded, compiled where it is not there yet."""
        library = self.models / "unlock.so"
        if not library.exists():
            self.models.mkdir(parents=True, exist_ok=True)
            subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, HERE / "unlock.c"], check=True)
        return library

    def measure(self, row, level):
        """Figures of a row, rates, memory and share of the peak; and the peers' version of PyTorch."""
        peers = [peer for peer in row.peers if level == "avx512" or not peer.best_only]
        sides = [None, *peers]
        seen = {side: [] for side in sides}
        for index in range(self.rounds):
            # Whoever comes first meets another machine than whoever comes last.
            for side in sides if index % 2 == 0 else reversed(sides):
                seen[side].append(self.ours(row, level) if side is None else self.theirs(row, side, level))
            for peer in peers:
                check_same_work(row, peer, seen[None][-1], seen[peer][-1])
            tell(f"{row.name} at {level}: round {index + 1} of {self.rounds}")
        ours = seen[None]
        figures = []
        for peer in peers:
            both = (row.name, level, peer.name, ours, seen[peer])
            figures.append(ratio(*both, "tokens/s", "tokens_per_second", peer.goals.get(level), True))
            if peer.memory is not None:
                figures.append(ratio(*both, "resident bytes", "peak_resident_bytes", peer.memory, False))
        if ours[0].get("peak_fraction") is not None:
            shares = [run["peak_fraction"] for run in ours]
            goal = row.fractions.get(level)
            figures.append(alone(row.name, level, "share of the FMA peak", shares, goal, True))
        return figures, seen[peers[0]][0]["torch"]

    def unlearn(self, name, level):
        """Figures of a row of unlearning, and the peer's version of PyTorch."""
        folder, combine, peer = self.models / "unlearning", UNLEARNING[name], "plain PyTorch"
        unlearning.prepare(self.binary, folder)
        options = ["--batch", unlearning.PAIRS, "--length", 256, "--rounds", unlearning.LONG]
        command = [sys.executable, HERE / "peer" / "unlearn.py", folder, "--combine", combine, *options]
        ours, theirs = [], []
        for index in range(self.rounds):
            for side in (ours, theirs) if index % 2 == 0 else (theirs, ours):
                if side is ours:
                    environment = {**os.environ, "AMEND_SIMD": level}
                    side.append(unlearning.timed(self.binary, folder, combine, self.threads, environment))
                else:
                    side.append(run(command + ["--threads", self.threads], self.peers_environment(level)))
            for moment in ("first", "last"):
                mine, other = ours[-1][moment], theirs[-1][moment]
                # The retain items are drawn at random on both sides, and so differ.
                if abs(mine - other) > 0.02 * abs(other):
                    raise NotMeasured(f"{peer} does other work: {moment} forget loss {other}, ours {mine}")
            tell(f"{name} at {level}: round {index + 1} of {self.rounds}")
        both = (name, level, peer, ours, theirs)
        figure = ratio(*both, "steps/s", "steps_per_second", UNLEARNING_GOALS.get(level), True)
        return [figure], theirs[0]["torch"]

    def start(self, starts, level):
        """The same of whole processes that score sixteen tokens, files in the page cache."""
        ids = ",".join(map(str, range(1, 17)))
        command = [self.binary, "score", self.model("a"), "--ids", ids, "--threads", self.threads, "--json"]
        command = [str(part) for part in command]
        seconds = []
        for _ in range(starts + 1):
            began = time.perf_counter()
            environment = {**os.environ, "AMEND_SIMD": level}
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
            seconds.append(time.perf_counter() - began)
        return [alone(START, level, "seconds to the first scored token", seconds[1:], START_GOAL, False)], None


def ratio(row, level, peer, ours, theirs, quantity, key, goal, at_least):
    ratios = [a[key] / b[key] for a, b in zip(ours, theirs)]
    return Figure(
        row,
        level,
        quantity,
        statistics.median(a[key] for a in ours),
        peer,
        statistics.median(b[key] for b in theirs),
        statistics.median(ratios),
        goal,
        at_least,
        min(ratios),
        max(ratios),
        len(ratios),
    )


def alone(row, level, quantity, values, goal, at_least):
    middle, low, high = statistics.median(values), min(values), max(values)
    return Figure(row, level, quantity, middle, "", None, middle, goal, at_least, low, high, len(values))


def check_same_work(row, peer, ours, theirs):
    """Both sides have the same weights and tokens, so they must find the same losses and texts."""
    for moment in ("first", "last"):
        (kind, mine), (_, other) = *ours[moment].items(), *theirs[moment].items()
        if kind == "ids":
            # Random weights make near ties, which rounding decides; a wrong model differs at once.
            exact = row.dtype == row.weights == "f32"
            same = len(mine) == len(other) and (mine[:4] == other[:4] or not exact)
        else:
            # Adapters start from different random numbers, so only their first losses agree.
            close = 1e-3 if row.dtype == row.weights == "f32" else 2e-2
            same = abs(mine - other) <= close * abs(other) or (row.mode == "lora" and moment == "last")
        if not same:
            raise NotMeasured(f"{peer.name} does other work: {moment} {kind} {other}, ours {mine}")


def tell(line):
    print(line, file=sys.stderr, flush=True)
