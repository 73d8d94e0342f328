"""A training step of a LoRA adapter: Hugging Face's model, PEFT's adapter on every linear layer."""

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

import workload


def main():
    args = workload.parse(workload.parser(__doc__))
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32, attn_implementation="sdpa")
    config = LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules="all-linear")
    model = get_peft_model(model, config).train()
    ids = workload.packed(args.batch, args.length, model.config.vocab_size)
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trainable, lr=1e-4, fused=True)

    def step():
        loss = model(input_ids=ids, labels=ids, use_cache=False).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return loss.item()

    workload.report(ids.numel(), *workload.timed(args.rounds, step))


if __name__ == "__main__":
    main()
