"""The unlearning rows: whole runs of a recipe against the same steps in plain PyTorch."""

import json
import random
import subprocess
import tempfile
import time
from pathlib import Path

PAIRS = 16
"""Pairs to forget, all of which a step takes, and pairs to keep, of which a step draws as many at random."""
CORPUS = 1600
"""Pairs that the vocabulary is made of."""
QUESTION, ANSWER = (12.3, 3.4), (26.4, 9.3)
"""Words of TOFU's questions and answers: mean and standard deviation over forget05."""
SHORT, LONG = 4, 24
"""Steps of the two runs whose difference is timed: what comes before and after the steps is in both."""

RECIPE = """\
method = "unlearn"

{model}

[data]
forget = "forget.jsonl"
retain = "retain.jsonl"

[unlearn]
forget = "npo"
combine = "{combine}"
forget_weight = 1.0
batch_size = {pairs}

[optimizer]
lr = 1e-5
weight_decay = 0.01

[stop]
below = 0.0
max_steps = {steps}
check_every = 1000000

[eval]
limit = 1
max_new_tokens = 0
"""
SCRATCH = """\
[model.scratch]
hidden = 256
layers = 6
heads = 4
kv_heads = 4
intermediate = 768
vocabulary = 8192
context = 256
epochs = 1
batch_size = 32"""


class RunFailed(Exception):
    """What a run says that did not come to its end."""


def lexicon(rng):
    """Words of random syllables."""
    consonants, vowels, ends = "bcdfghklmnprstvz", "aeiou", ["", "", "n", "r", "s", "l"]
    syllable = lambda: rng.choice(consonants) + rng.choice(vowels) + rng.choice(ends)
    return ["".join(syllable() for _ in range(rng.randint(1, 4))) for _ in range(6000)]


def pairs(rng, count):
    """Questions and answers of TOFU's lengths, a few words frequent and most of them rare, as in any text."""
    words = lexicon(rng)

    def text(mean, deviation):
        length = max(4, round(rng.gauss(mean, deviation)))
        return " ".join(words[min(int(rng.paretovariate(0.4)), len(words)) - 1] for _ in range(length))

    return [{"question": text(*QUESTION) + "?", "answer": text(*ANSWER) + "."} for _ in range(count)]


def write(folder, forget, retain):
    for name, records in (("forget", forget), ("retain", retain)):
        lines = "".join(json.dumps(record) + "\n" for record in records)
        (folder / f"{name}.jsonl").write_text(lines)


def prepare(binary, folder):
    """Makes model/, forget.jsonl and retain.jsonl in the folder, once."""
    if (folder / "model").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    corpus = pairs(random.Random(0), CORPUS)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        scratch = Path(scratch)
        write(scratch, corpus[: CORPUS // 2], corpus[CORPUS // 2 :])
        run(binary, scratch, SCRATCH, "sum", steps=1)
        write(folder, corpus[:PAIRS], corpus[-PAIRS:])
        (scratch / "run" / "models" / "base").rename(folder / "model")


def run(binary, folder, model, combine, steps, options=(), environment=None):
    """Runs the recipe on the folder's data to its end, whatever its verdict. Returns seconds and rows of metrics."""
    recipe = RECIPE.format(model=model, combine=combine, pairs=PAIRS, steps=steps)
    (folder / "recipe.toml").write_text(recipe)
    command = [str(binary), "run", str(folder / "recipe.toml"), "--out", str(folder / "run"), "--quiet", *options]
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    seconds = time.perf_counter() - began
    if done.returncode not in (0, 1):
        raise RunFailed(done.stderr.strip())
    lines = (folder / "run" / "metrics.jsonl").read_text().splitlines()
    return seconds, [json.loads(line) for line in lines]


def timed(binary, folder, combine, threads, environment):
    """Steps per second of a recipe, and the forget loss of its first and last step."""
    model, seconds = f'[model]\npath = "{folder / "model"}"', {}
    for steps in (SHORT, LONG):
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            scratch = Path(scratch)
            for name in ("forget", "retain"):
                (scratch / f"{name}.jsonl").write_bytes((folder / f"{name}.jsonl").read_bytes())
            options = ["--threads", str(threads), "--checkpoint-every", "86400"]
            seconds[steps], rows = run(binary, scratch, model, combine, steps, options, environment)
    steps = [row for row in rows if "loss_forget" in row]
    first, last = steps[0]["loss_forget"], steps[-1]["loss_forget"]
    rate = (LONG - SHORT) / (seconds[LONG] - seconds[SHORT])
    return {"steps_per_second": rate, "first": first, "last": last}
