"""The rows of the table: what is run on our side and on each peer's, and what the goal is."""

from dataclasses import dataclass, field


@dataclass(frozen=True, eq=False)
class Peer:
    """One peer of a row; a key of what it measured."""

    name: str
    """What the table calls it."""
    command: tuple
    """File in bench/peer and its arguments."""
    goals: dict = field(default_factory=dict)
    """Our rate over its rate, at least, by instruction-set level; where there is none: for information."""
    unlocked: bool = False
    """Whether MKL is made to take its AVX-512 path."""
    best_only: bool = False
    """Whether it is asked at the machine's best level alone."""
    memory: float | None = None
    """Our largest resident size over its, at most."""


@dataclass(frozen=True)
class Row:
    """One row: a shape, a mode and a workload, the same on both sides."""

    name: str
    shape: str
    mode: str
    batch: int
    length: int
    peers: tuple
    dtype: str = "f32"
    """Operands of our products."""
    weights: str = "f32"
    """Our weights where nothing is trained."""
    rounds: int = 3
    """Rounds within a process, of which the median counts."""
    fractions: dict = field(default_factory=dict)
    """Share of the measured peak of multiply-adds, at least, by level."""


def goals(avx512=None, avx2=None):
    """What is set for each level."""
    return {level: goal for level, goal in (("avx512", avx512), ("avx2", avx2)) if goal is not None}


def train(shape, batch, length, eager, unlocked, fraction=None, compiled=False):
    peers = [
        Peer("PyTorch eager", ("train.py",), eager, memory=0.35),
        Peer("PyTorch eager, MKL on AVX-512", ("train.py",), unlocked, unlocked=True, best_only=True),
    ]
    if compiled:
        # Held to AVX2, what PyTorch 2.15 compiles starts from another loss than eager.
        peers.append(Peer("torch.compile", ("train.py", "--compile"), best_only=True))
    fractions = goals(avx512=fraction)
    return Row(f"train-f32-{shape}", shape, "train", batch, length, tuple(peers), fractions=fractions)


def train_bf16(shape, batch, length, goal):
    peer = Peer("PyTorch bf16 autocast", ("train.py", "--autocast"), goals(avx512=goal))
    return Row(f"train-bf16-{shape}", shape, "train", batch, length, (peer,), dtype="bf16")


def decode(shape, batch, length, generate):
    """Both sides compute in f32; the weights of shape C are bf16 numbers, as Qwen publishes them."""
    peers = (
        Peer("Hugging Face generate", ("decode.py", "--how", "generate"), generate),
        Peer("PyTorch eager with cache", ("decode.py", "--how", "loop"), goals(avx512=1.0)),
    )
    rounds = 1 if shape == "c" else 3
    return Row(f"decode-{shape}-{batch}", shape, "decode", batch, length, peers, rounds=rounds)


def decode_bf16(shape, batch, length):
    peers = (
        Peer("Hugging Face generate in bf16", ("decode.py", "--how", "generate", "--bf16")),
        Peer("PyTorch eager with cache in bf16", ("decode.py", "--how", "loop", "--bf16")),
    )
    name = f"decode-bf16-{shape}-{batch}"
    return Row(name, shape, "decode", batch, length, peers, weights="bf16", rounds=1)


def decode_int8(shape, batch, length, goal):
    peers = (Peer("Hugging Face generate", ("decode.py", "--how", "generate"), goals(avx512=goal)),)
    return Row(f"decode-int8-{shape}-{batch}", shape, "decode", batch, length, peers, weights="int8", rounds=1)


ROWS = (
    train("a", 8, 256, goals(2.5, avx2=1.4), goals(1.5), fraction=0.70, compiled=True),
    train("b", 4, 512, goals(2.5, avx2=1.4), goals(1.15)),
    train_bf16("a", 8, 256, 2.2),
    train_bf16("b", 4, 512, 1.6),
    Row(
        "lora-c", "c", "lora", 1, 1024, (Peer("PEFT, eager", ("lora.py",), goals(1.5), memory=0.5),), rounds=1
    ),
    decode("a", 1, 128, goals(4.0)),
    decode("a", 16, 128, goals(3.0)),
    decode("a", 64, 64, goals(2.0)),
    decode("c", 1, 16, goals(4.0, avx2=2.5)),
    decode("c", 16, 16, goals(3.0)),
    decode("c", 64, 8, goals(2.0)),
    decode_bf16("c", 1, 16),
    decode_int8("c", 1, 16, 4.0),
    Row("prefill-c", "c", "prefill", 1, 512, (Peer("PyTorch eager", ("prefill.py",), goals(1.5, avx2=1.3)),)),
    Row(
        "score-a",
        "a",
        "score",
        1000,
        128,
        (Peer("padded Hugging Face loop, 32 at a time", ("score.py",), goals(3.0)),),
        rounds=1,
    ),
)

UNLEARNING = {"unlearn-npo": "sum", "unlearn-sago": "sago"}
"""Rows of whole runs: NPO with a retain loss, by what makes one update of the two gradients."""
UNLEARNING_GOALS = goals(avx512=2.0, avx2=2.0)
"""Steps per second over those of plain PyTorch, at least."""

START = "start-a"
"""The row of its own: from the start of the process to the first scored token."""
START_GOAL = 0.060
"""Seconds."""

NAMES = tuple(row.name for row in ROWS) + tuple(UNLEARNING) + (START,)
