"""Log-probabilities of sequences of mixed length: a padded loop over Hugging Face's model, 32 at a time."""

import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM

import workload

AT_A_TIME = 32


def main():
    args = workload.parse(workload.parser(__doc__))
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32, attn_implementation="sdpa")
    sequences = workload.mixed(args.batch, args.length, model.config.vocab_size)

    def score(some):
        longest = max(map(len, some))
        ids = torch.zeros(len(some), longest, dtype=torch.long)
        mask = torch.zeros_like(ids)
        # Targets are the ids one place further on; what is ignored costs no copy of the logits.
        targets = torch.full_like(ids, -100)
        for row, sequence in enumerate(some):
            ids[row, : len(sequence)] = torch.tensor(sequence)
            mask[row, : len(sequence)] = 1
            targets[row, : len(sequence) - 1] = ids[row, 1 : len(sequence)]
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        nll = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
        return nll.double().sum().item()

    def work():
        starts = range(0, len(sequences), AT_A_TIME)
        total = sum(score(sequences[start : start + AT_A_TIME]) for start in starts)
        return total / sum(len(sequence) - 1 for sequence in sequences)

    with torch.inference_mode():
        workload.report(sum(map(len, sequences)), *workload.timed(args.rounds, work))


if __name__ == "__main__":
    main()
