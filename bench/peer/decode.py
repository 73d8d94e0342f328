"""Greedy decoding after a prompt of 16 tokens: Hugging Face's `generate`, or a plain loop with a cache."""

import time

import torch
from decoder import Decoder
from transformers import AutoModelForCausalLM, StoppingCriteria

import workload


class Clock(StoppingCriteria):
    """Never stops anything; notes when the first new token was there."""

    def __init__(self, batch):
        self.first = None
        self.no = torch.zeros(batch, dtype=torch.bool)

    def __call__(self, input_ids, scores, **kwargs):
        self.first = self.first or time.perf_counter()
        return self.no


def dtype(args):
    return torch.bfloat16 if args.bf16 else torch.float32


def with_generate(args):
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=dtype(args), attn_implementation="sdpa")
    model.generation_config.pad_token_id = 0
    prompts = workload.packed(args.batch, workload.PROMPT, model.config.vocab_size)
    mask = torch.ones_like(prompts)

    def work():
        clock = Clock(args.batch)
        texts = model.generate(
            prompts,
            attention_mask=mask,
            max_new_tokens=args.length + 1,
            do_sample=False,
            stopping_criteria=[clock],
        )
        took = time.perf_counter() - clock.first
        assert texts.shape == (args.batch, workload.PROMPT + args.length + 1), texts.shape
        return texts[0, workload.PROMPT :].tolist(), took

    return work


def with_loop(args):
    longest = workload.PROMPT + args.length + 1
    decoder = Decoder.open(args.model, longest).to(dtype(args))
    prompts = workload.packed(args.batch, workload.PROMPT, decoder.config["vocab_size"])

    def work():
        caches = decoder.new_caches(args.batch, longest, dtype(args))
        ids = [decoder.next_tokens(prompts, caches, 0)]
        start = time.perf_counter()
        for position in range(workload.PROMPT, longest - 1):
            ids.append(decoder.next_tokens(ids[-1], caches, position))
        took = time.perf_counter() - start
        return torch.cat(ids, 1)[0].tolist(), took

    return work


def main():
    arguments = workload.parser(__doc__)
    arguments.add_argument("--how", choices=["generate", "loop"], required=True)
    arguments.add_argument("--bf16", action="store_true", help="weights and arithmetic in bf16")
    args = workload.parse(arguments)
    work = with_generate(args) if args.how == "generate" else with_loop(args)
    with torch.inference_mode():
        workload.report(args.batch * args.length, *workload.timed(args.rounds, work))


if __name__ == "__main__":
    main()
