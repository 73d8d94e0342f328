"""A Llama or Qwen3 decoder in plain PyTorch: what an experienced user writes without a library.

scaled_dot_product_attention, no copies that are not needed, parameters named as checkpoints name them.
"""

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn


def rotate(x, cos, sin):
    half = x.shape[-1] // 2
    turned = torch.cat((-x[..., half:], x[..., :half]), dim=-1)
    return x * cos + turned * sin


def linear(inner, out):
    return nn.Linear(inner, out, bias=False)


class Attention(nn.Module):
    def __init__(self, config):
        super().__init__()
        hidden, self.width = config["hidden_size"], config["head_dim"]
        self.heads, self.kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
        self.q_proj = linear(hidden, self.heads * self.width)
        self.k_proj = linear(hidden, self.kv_heads * self.width)
        self.v_proj = linear(hidden, self.kv_heads * self.width)
        self.o_proj = linear(self.heads * self.width, hidden)
        self.normed = config["model_type"] == "qwen3"
        if self.normed:
            self.q_norm = nn.RMSNorm(self.width, config["rms_norm_eps"])
            self.k_norm = nn.RMSNorm(self.width, config["rms_norm_eps"])

    def forward(self, x, cos, sin, cache, start):
        b, t, _ = x.shape
        q = self.q_proj(x).view(b, t, self.heads, self.width)
        k = self.k_proj(x).view(b, t, self.kv_heads, self.width)
        v = self.v_proj(x).view(b, t, self.kv_heads, self.width).transpose(1, 2)
        if self.normed:
            q, k = self.q_norm(q), self.k_norm(k)
        q, k = rotate(q.transpose(1, 2), cos, sin), rotate(k.transpose(1, 2), cos, sin)
        if cache is not None:
            keys, values = cache
            keys[:, :, start : start + t], values[:, :, start : start + t] = k, v
            k, v = keys[:, :, : start + t], values[:, :, : start + t]
        grouped = self.heads != self.kv_heads
        z = F.scaled_dot_product_attention(q, k, v, is_causal=t > 1, enable_gqa=grouped)
        return self.o_proj(z.transpose(1, 2).reshape(b, t, -1))


class Mlp(nn.Module):
    def __init__(self, config):
        super().__init__()
        hidden, inner = config["hidden_size"], config["intermediate_size"]
        self.gate_proj, self.up_proj = linear(hidden, inner), linear(hidden, inner)
        self.down_proj = linear(inner, hidden)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    def __init__(self, config):
        super().__init__()
        hidden, eps = config["hidden_size"], config["rms_norm_eps"]
        self.input_layernorm, self.post_attention_layernorm = nn.RMSNorm(hidden, eps), nn.RMSNorm(hidden, eps)
        self.self_attn, self.mlp = Attention(config), Mlp(config)

    def forward(self, x, cos, sin, cache, start):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, cache, start)
        return x + self.mlp(self.post_attention_layernorm(x))


class Inner(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.embed_tokens = nn.Embedding(config["vocab_size"], config["hidden_size"])
        self.layers = nn.ModuleList(Block(config) for _ in range(config["num_hidden_layers"]))
        self.norm = nn.RMSNorm(config["hidden_size"], config["rms_norm_eps"])


class Decoder(nn.Module):
    """`Decoder.open(folder, longest)`, then hidden states and logits."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.model = Inner(config)
        self.lm_head = linear(config["hidden_size"], config["vocab_size"])

    @classmethod
    def open(cls, folder, longest):
        """Reads a folder. Weights are taken as the file holds them, without a copy."""
        config = json.loads((Path(folder) / "config.json").read_text())
        with torch.device("meta"):
            decoder = cls(config)
        weights = load_file(Path(folder) / "model.safetensors")
        weights.setdefault("lm_head.weight", weights["model.embed_tokens.weight"])
        decoder.load_state_dict(weights, assign=True)
        if config["tie_word_embeddings"]:
            decoder.lm_head.weight = decoder.model.embed_tokens.weight
        width = config["head_dim"]
        frequency = 1.0 / config["rope_theta"] ** (torch.arange(0, width, 2) / width)
        angle = torch.outer(torch.arange(longest), frequency).repeat(1, 2)
        decoder.register_buffer("cos", angle.cos(), persistent=False)
        decoder.register_buffer("sin", angle.sin(), persistent=False)
        return decoder

    def new_caches(self, batch, longest, dtype=torch.float32):
        """Room for the keys and values of `longest` tokens, taken once."""
        shape = (batch, self.config["num_key_value_heads"], longest, self.config["head_dim"])
        return [(torch.empty(shape, dtype=dtype), torch.empty(shape, dtype=dtype)) for _ in self.model.layers]

    def hidden(self, ids, caches=None, start=0):
        """Hidden states after the last norm: ids [b, t] → [b, t, d]."""
        cos, sin = self.cos[start : start + ids.shape[1]], self.sin[start : start + ids.shape[1]]
        x = self.model.embed_tokens(ids)
        for index, block in enumerate(self.model.layers):
            x = block(x, cos, sin, caches and caches[index], start)
        return self.model.norm(x)

    def next_tokens(self, ids, caches, start):
        """The likeliest token after each sequence: [b, t] → [b, 1]."""
        return self.lm_head(self.hidden(ids, caches, start)[:, -1]).argmax(-1, keepdim=True)
