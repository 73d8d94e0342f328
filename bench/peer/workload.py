"""What every peer does alike: the work, which is amend's to the token, and the line it prints."""

import argparse
import ctypes
import json
import resource
import statistics
import time

import torch

PROMPT = 16
SHORTEST = 8
STRIDE = 7919


def parser(description):
    """Arguments of every peer."""
    arguments = argparse.ArgumentParser(description=description)
    arguments.add_argument("model", help="folder of the model")
    arguments.add_argument("--batch", type=int, required=True)
    arguments.add_argument("--length", type=int, required=True)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--threads", type=int, required=True)
    return arguments


def parse(arguments):
    """Parses, and sets the threads before anything is computed."""
    args = arguments.parse_args()
    torch.set_num_threads(args.threads)
    torch.set_num_interop_threads(1)
    torch.manual_seed(0)
    return args


def tokens(sequence, length, vocabulary):
    """Ids of one sequence, as `amend bench` makes them."""
    return [(i * 31 + sequence * 17 + i * i) % vocabulary for i in range(length)]


def packed(batch, length, vocabulary):
    """Ids of sequences of equal length: [batch, length]."""
    return torch.tensor([tokens(s, length, vocabulary) for s in range(batch)])


def mixed(batch, longest, vocabulary):
    """Sequences of mixed length, in the order `amend bench --mode score` takes them."""
    shortest = min(SHORTEST, longest)
    lengths = [shortest + s * STRIDE % (longest - shortest + 1) for s in range(batch)]
    return [tokens(s, length, vocabulary) for s, length in enumerate(lengths)]


def timed(rounds, work):
    """Runs `work` once to warm up and then `rounds` times; seconds of each, and what each returned.

    `work` returns its outcome, or (outcome, seconds) where it times a part of itself.
    """
    seconds, outcomes = [], []
    for index in range(rounds + 1):
        start = time.perf_counter()
        outcome = work()
        took = time.perf_counter() - start
        if isinstance(outcome, tuple):
            outcome, took = outcome
        outcomes.append(outcome)
        if index:
            seconds.append(took)
    return seconds, outcomes


def report_steps(seconds, losses):
    """The line of a peer whose rounds are steps of different losses."""
    print(json.dumps({
        "steps_per_second": 1 / statistics.median(seconds),
        "first": losses[0],
        "last": losses[-1],
        "torch": torch.__version__,
    }))


def report(tokens_per_round, seconds, outcomes):
    """Prints what the table is made of, as one line of JSON."""
    kind = "ids" if isinstance(outcomes[0], list) else "loss"
    print(json.dumps({
        "tokens_per_second": tokens_per_round / statistics.median(seconds),
        "peak_resident_bytes": peak_resident_bytes(),
        "first": {kind: outcomes[0]},
        "last": {kind: outcomes[-1]},
        "torch": torch.__version__,
        "times_asked": times_asked(),
    }))


def peak_resident_bytes():
    """Largest resident size of this process; `ru_maxrss` would count the parent's before exec too."""
    try:
        with open("/proc/self/status") as status:
            line = next(line for line in status if line.startswith("VmHWM:"))
            return int(line.split()[1]) * 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def times_asked():
    """How often MKL asked the preloaded library for the processor; None where there is none."""
    try:
        return ctypes.CDLL(None).amend_bench_times_asked()
    except AttributeError:
        return None
