"""NPO with a retain loss in plain PyTorch, its two gradients summed or combined as SAGO does.

As published implementations do it: padded batches, logits at every position, the frozen reference asked at every
step, one backward pass for the sum and two for SAGO.
"""

import json
import random
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

import workload
from decoder import Decoder

BETA = 0.1
IGNORED = -100


def encoded(folder, name, tokenizer, eos):
    """Ids of the pairs of a file, and which of them are scored as targets: not those of the question."""
    rows = []
    for line in (folder / name).read_text().splitlines():
        record = json.loads(line)
        prompt = f"Question: {record['question']}\nAnswer:"
        text = tokenizer.encode(f"{prompt} {record['answer']}")
        ids = text.ids + ([] if text.ids[-1] == eos else [eos])
        ends = [end for _, end in text.offsets] + [10**9] * (len(ids) - len(text.ids))
        rows.append((ids, [i if end > len(prompt) else IGNORED for i, end in zip(ids, ends)]))
    return rows


def padded(rows, eos):
    """Ids and targets: [n, longest] each."""
    longest = max(len(ids) for ids, _ in rows)
    pad = lambda row, value: row + [value] * (longest - len(row))
    return torch.tensor([pad(i, eos) for i, _ in rows]), torch.tensor([pad(t, IGNORED) for _, t in rows])


def token_nll(decoder, ids, targets):
    logits = decoder.lm_head(decoder.hidden(ids))[:, :-1]
    targets = targets[:, 1:]
    nll = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="none")
    return nll.view(targets.shape), targets != IGNORED


def main():
    arguments = workload.parser(__doc__)
    arguments.add_argument("--combine", choices=("sum", "sago"), required=True)
    args = workload.parse(arguments)
    folder = Path(args.model)
    decoder, reference = (Decoder.open(folder / "model", args.length) for _ in range(2))
    tokenizer = Tokenizer.from_file(str(folder / "model" / "tokenizer.json"))
    eos = decoder.config["eos_token_id"]
    forget = padded(encoded(folder, "forget.jsonl", tokenizer, eos), eos)
    pairs = encoded(folder, "retain.jsonl", tokenizer, eos)
    rng = random.Random(0)
    parameters = list(decoder.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": 0.01},
        {"params": [p for p in parameters if p.ndim == 1], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=1e-5, fused=True)

    def forget_loss():
        with torch.no_grad():
            before = token_nll(reference, *forget)[0].sum(1)
        margin = token_nll(decoder, *forget)[0].sum(1) - before
        return -2 / BETA * F.logsigmoid(BETA * margin).mean()

    def retain_loss():
        # As amend draws them: each at random from the whole set.
        nll, scored = token_nll(decoder, *padded(rng.choices(pairs, k=len(pairs)), eos))
        return nll.sum() / scored.sum()

    def step():
        optimiser.zero_grad()
        losses = forget_loss(), retain_loss()
        if args.combine == "sum":
            sum(losses).backward()
        else:
            to_forget, to_retain = (torch.autograd.grad(loss, parameters) for loss in losses)
            for parameter, f, r in zip(parameters, to_forget, to_retain):
                parameter.grad = torch.where(torch.sign(f) * torch.sign(r) < 0, r, f)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        return losses[0].item()

    seconds, losses = workload.timed(args.rounds - 1, step)
    workload.report_steps(seconds, losses)


if __name__ == "__main__":
    main()
