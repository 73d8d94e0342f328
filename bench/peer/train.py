"""A training step in PyTorch: eager, under bf16 autocast (f32 weights), or compiled. Fused AdamW."""

import contextlib

import torch
import torch.nn.functional as F

import workload
from decoder import Decoder


def main():
    arguments = workload.parser(__doc__)
    arguments.add_argument("--autocast", action="store_true", help="products in bf16")
    arguments.add_argument("--compile", action="store_true", help="torch.compile")
    args = workload.parse(arguments)
    decoder = Decoder.open(args.model, args.length)
    ids = workload.packed(args.batch, args.length, decoder.config["vocab_size"])
    targets = ids[:, 1:].flatten()
    optimiser = torch.optim.AdamW(decoder.parameters(), lr=1e-4, fused=True)

    def loss_of(ids, targets):
        # The last token of a sequence predicts nothing: left out before the head, not after.
        logits = decoder.lm_head(decoder.hidden(ids)[:, :-1].flatten(0, 1))
        return F.cross_entropy(logits, targets)

    if args.compile:
        loss_of = torch.compile(loss_of)

    def step():
        with torch.autocast("cpu", torch.bfloat16) if args.autocast else contextlib.nullcontext():
            loss = loss_of(ids, targets)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return loss.item()

    workload.report(ids.numel(), *workload.timed(args.rounds, step))


if __name__ == "__main__":
    main()
