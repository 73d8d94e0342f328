"""A prompt's forward pass up to the first new token, keys and values kept, in PyTorch eager."""

import torch
from decoder import Decoder

import workload


def main():
    args = workload.parse(workload.parser(__doc__))
    decoder = Decoder.open(args.model, args.length).float()
    prompts = workload.packed(args.batch, args.length, decoder.config["vocab_size"])

    def work():
        caches = decoder.new_caches(args.batch, args.length)
        return decoder.next_tokens(prompts, caches, 0)[0].tolist()

    with torch.inference_mode():
        workload.report(prompts.numel(), *workload.timed(args.rounds, work))


if __name__ == "__main__":
    main()
