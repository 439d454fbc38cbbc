#!/usr/bin/env python3
"""Greedy generation with Hugging Face transformers on the CPU, for generate_vs_transformers.sh.

  generate_peer.py make DIR                      writes a Qwen3 of the preset 100m with random weights
  generate_peer.py run DIR --batch 8 --threads 2 [--dtype bf16|fp32] [--prompt 128] [--new 128] [--cache dynamic|static]

`run` prints one JSON line: ms (median of the runs after a warm-up) and the new tokens. Token i of prompt s is
(1 + 7919 * (s * length + i)) % vocabulary, as in `dujiang bench generate`.
"""
import argparse
import json
import os
import statistics
import time


def make(args):
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    config = Qwen3Config(vocab_size=32768, hidden_size=768, num_hidden_layers=12, num_attention_heads=12,
                         num_key_value_heads=4, head_dim=64, intermediate_size=2048, max_position_embeddings=1024,
                         tie_word_embeddings=True)
    Qwen3ForCausalLM(config).save_pretrained(args.dir)


def run(args):
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(args.threads)
    dtype = torch.bfloat16 if args.dtype == "bf16" else torch.float32
    model = AutoModelForCausalLM.from_pretrained(args.dir, dtype=dtype, attn_implementation="sdpa").eval()
    vocabulary = model.config.vocab_size
    prompts = torch.tensor([[(1 + 7919 * (s * args.prompt + i)) % vocabulary for i in range(args.prompt)]
                            for s in range(args.batch)])
    options = {"do_sample": False, "min_new_tokens": args.new, "max_new_tokens": args.new, "use_cache": True,
               "pad_token_id": 0, "attention_mask": torch.ones_like(prompts)}
    if args.cache == "static":
        options["cache_implementation"] = "static"
    seconds = []
    with torch.inference_mode():
        for _ in range(1 + args.runs):
            begin = time.perf_counter()
            out = model.generate(prompts, **options)
            seconds.append(time.perf_counter() - begin)
    print(json.dumps({"ms": 1e3 * statistics.median(seconds[1:]), "torch": torch.__version__,
                      "tokens": out[:, args.prompt:].tolist()}))


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
commands = parser.add_subparsers(required=True)
making = commands.add_parser("make")
making.add_argument("dir")
making.set_defaults(action=make)
running = commands.add_parser("run")
running.add_argument("dir")
running.add_argument("--batch", type=int, default=1)
running.add_argument("--threads", type=int, default=1)
running.add_argument("--dtype", choices=["bf16", "fp32"], default="bf16")
running.add_argument("--prompt", type=int, default=128)
running.add_argument("--new", type=int, default=128)
running.add_argument("--runs", type=int, default=3)
running.add_argument("--cache", choices=["dynamic", "static"], default="dynamic")
running.set_defaults(action=run)
arguments = parser.parse_args()
arguments.action(arguments)
