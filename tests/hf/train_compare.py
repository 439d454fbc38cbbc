#!/usr/bin/env python3
"""Trains one model from the same weights on the same batches in PyTorch and here, and compares the losses.

    train_compare.py TRAIN_COMPARE [--steps 200] [--limit 1e-4]

TRAIN_COMPARE is the program of that name that the tests build. Needs torch and transformers. fp32, AdamW with clipping,
cosine schedule with warm-up. Prints a report, which is kept as train_compare.out; exits with 1 above the limit.
"""

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file

LR, WARMUP, MIN_LR, CLIP = 2e-3, 20, 2e-4, 1.0
BATCH, LENGTH, MICRO_BATCH, VOCABULARY = 8, 64, 3, 512


def make_model():
    torch.manual_seed(1)
    config = transformers.Qwen3Config(
        vocab_size=VOCABULARY, hidden_size=128, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2,
        head_dim=32, intermediate_size=320, max_position_embeddings=LENGTH, rope_theta=10000.0,
        tie_word_embeddings=True, initializer_range=0.02, bos_token_id=None, eos_token_id=0)
    config._attn_implementation = "sdpa"
    return transformers.Qwen3ForCausalLM(config).float().train()


def make_batches(steps):
    """Random walks over a fixed graph of five successors a token, so that there is something to learn."""
    generator = torch.Generator().manual_seed(2)
    successors = torch.randint(VOCABULARY, (VOCABULARY, 5), generator=generator)
    token = torch.randint(VOCABULARY, (steps, BATCH), generator=generator)
    walk = [token]
    for _ in range(LENGTH):
        choice = torch.randint(5, (steps, BATCH), generator=generator)
        walk.append(successors[walk[-1], choice])
    text = torch.stack(walk, dim=-1).int()
    labels = text[..., 1:].clone()
    labels[:, ::3, :7] = -100  # rows of unequal numbers of labels
    return text[..., :-1].contiguous(), labels.contiguous()


def learning_rate(step, steps):
    if step <= WARMUP:
        return LR * step / WARMUP
    return MIN_LR + (LR - MIN_LR) * 0.5 * (1 + math.cos(math.pi * (step - WARMUP) / (steps - WARMUP)))


def train_in_pytorch(model, tokens, labels):
    groups = [{"params": [p for p in model.parameters() if p.dim() > 1], "weight_decay": 0.1},
              {"params": [p for p in model.parameters() if p.dim() == 1], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=LR, betas=(0.9, 0.95), eps=1e-8)
    losses, norms = [], []
    for step in range(1, len(tokens) + 1):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, len(tokens))
        optimizer.zero_grad()
        logits = model(tokens[step - 1].long()).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[step - 1].long().flatten())
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP).item())
        losses.append(loss.item())
        optimizer.step()
    return losses, norms


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--limit", type=float, default=1e-4)
    arguments = parser.parse_args()

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 2)))
    model = make_model()
    tokens, labels = make_batches(arguments.steps)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        model.save_pretrained(folder / "model")
        save_file({"tokens": tokens, "labels": labels}, folder / "batches.safetensors",
                  metadata={"lr": str(LR), "warmup": str(WARMUP), "min_lr": str(MIN_LR), "micro_batch": str(MICRO_BATCH)})
        subprocess.run([arguments.program, folder / "model", folder / "batches.safetensors", folder / "ours.json"], check=True)
        ours = json.loads((folder / "ours.json").read_text())
    losses, norms = train_in_pytorch(model, tokens, labels)

    print(f"python {platform.python_version()}, torch {torch.__version__}, transformers {transformers.__version__}")
    print(f"{sum(p.numel() for p in model.parameters())} parameters, fp32, {arguments.steps} steps of {BATCH} x {LENGTH} tokens, "
          f"ours in micro-batches of {MICRO_BATCH}")
    print("  step    PyTorch       ours  relative difference")
    differences = [abs(a / b - 1) for a, b in zip(ours["loss"], losses)]
    shown = {1, 2, 5} | set(range(10, arguments.steps, 10)) | {arguments.steps}
    for step in sorted(s for s in shown if s <= arguments.steps):
        print(f"{step:6d} {losses[step - 1]:10.6f} {ours['loss'][step - 1]:10.6f}  {differences[step - 1]:.1e}")
    worst = max(differences)
    print(f"worst of the {len(differences)} losses: {worst:.1e} at step {differences.index(worst) + 1}, "
          f"limit {arguments.limit:.0e}")
    print(f"worst of the gradient norms: {max(abs(a / b - 1) for a, b in zip(ours['grad_norm'], norms)):.1e}")
    return 0 if len(differences) == arguments.steps and worst <= arguments.limit and losses[-1] < 0.7 * losses[0] else 1


if __name__ == "__main__":
    sys.exit(main())
