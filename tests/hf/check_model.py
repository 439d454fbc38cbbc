#!/usr/bin/env python3
"""Loads one of our checkpoints in Hugging Face transformers and compares logits, losses and token ids.

    check_model.py MODEL [--dujiang build/launch/dujiang] [--text FILE]

Needs transformers and torch. The report, kept as check_model.out, ends with "equal" or exits with 1.

Bounds: fp32 logits differ by less than 1e-4 of the largest (products summed in another order); bf16 logits, against
the fp32 ones, by less than twice what transformers' own bf16 does; nll_per_token in fp32 by less than 1e-5 relative;
token ids not at all (texts with U+2581, which Hugging Face can't tell from a space, are left out).
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

DEFAULT_TEXT = """都江堰位于四川省成都市都江堰市城西，坐落在成都平原西部的岷江上，始建于秦昭王末年。
软件包管理系统 dpkg 负责安装、删除和查询 .deb 软件包；apt-get 在它之上解决依赖关系。
床前明月光，疑是地上霜。举头望明月，低头思故乡。  “两个空格”与\ttab、emoji 😀、生僻字𠮷。
"""


class Report:
    def __init__(self):
        self.failed = 0

    def row(self, what, value, bound):
        good = value <= bound
        self.failed += not good
        print(f"{what:54s} {value:11.3e}  <= {bound:9.3e}  {'ok' if good else 'DIFFERS'}")


def run(dujiang, *arguments, text=None):
    done = subprocess.run([dujiang, *map(str, arguments)], input=text.encode() if text is not None else None,
                          stdout=subprocess.PIPE)
    if done.returncode:
        sys.exit(f"{dujiang} {' '.join(map(str, arguments))} ended with {done.returncode}")
    return done.stdout


def our_logits(dujiang, model, ids, precision, folder):
    out = Path(folder) / f"{precision}.safetensors"
    run(dujiang, "logits", model, "--tokens", ",".join(map(str, ids)), "--precision", precision, "--out", out)
    return load_file(out)["logits"]


@torch.no_grad()
def their_logits(model, dtype, ids):
    loaded = AutoModelForCausalLM.from_pretrained(model, dtype=dtype).eval()
    return loaded(torch.tensor([ids])).logits[0].float()


@torch.no_grad()
def their_nll(model, ids, start):
    """The mean over all tokens, the first after the end-of-document token; one window."""
    loaded = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    logits = loaded(torch.tensor([[start] + ids])).logits[0, :-1]
    return torch.nn.functional.cross_entropy(logits, torch.tensor(ids)).item()


def compare_tokens(report, dujiang, model, tokenizer, texts):
    texts = [t for t in texts if "\u2581" not in t]
    different = tokens = 0
    for text in texts:
        ours = json.loads(run(dujiang, "tokenizer", "encode", model, "--json", text=text))["ids"]
        different += ours != tokenizer(text, add_special_tokens=False)["input_ids"]
        different += tokenizer.decode(ours) != text
        tokens += len(ours)
    report.row(f"texts of {len(texts)} ({tokens} tokens) with other ids", different, 0)


def compare_logits(report, dujiang, model, ids, folder):
    exact = their_logits(model, torch.float32, ids)
    largest = exact.abs().max().item()
    ours = our_logits(dujiang, model, ids, "fp32", folder)
    report.row("fp32 logits, largest difference / largest logit", (ours - exact).abs().max().item() / largest, 1e-4)
    report.row("fp32 logits, positions with another argmax", (ours.argmax(-1) != exact.argmax(-1)).sum().item(), 0)
    half = their_logits(model, torch.bfloat16, ids)
    ours = our_logits(dujiang, model, ids, "bf16", folder)
    report.row("bf16 logits, rms difference from fp32", (ours - exact).pow(2).mean().sqrt().item(),
               2 * (half - exact).pow(2).mean().sqrt().item())


def compare_loss(report, dujiang, model, config, tokenizer, text, folder):
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    path = Path(folder) / "text.txt"
    while len(ids) >= config.max_position_embeddings:  # one window, which both see whole
        text = text[:len(text) * 3 // 4]
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    path.write_text(text, encoding="utf-8")
    ours = json.loads(run(dujiang, "eval", model, "--text", path, "--precision", "fp32", "--json"))
    eos = config.eos_token_id
    theirs = their_nll(model, ids, eos[0] if isinstance(eos, list) else eos)
    report.row(f"nll per token of {len(ids)} tokens: {theirs:.5f}, relative", abs(ours["nll_per_token"] / theirs - 1), 1e-5)
    report.row("eval's number of tokens, difference", abs(ours["tokens"] - len(ids)), 0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--dujiang", default=str(Path(__file__).resolve().parents[2] / "build/launch/dujiang"))
    parser.add_argument("--text", help="UTF-8 text instead of a few built-in lines")
    arguments = parser.parse_args()
    text = Path(arguments.text).read_text(encoding="utf-8") if arguments.text else DEFAULT_TEXT

    print(f"python {platform.python_version()}, torch {torch.__version__}, transformers {transformers.__version__}")
    config = transformers.AutoConfig.from_pretrained(arguments.model)
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    loaded = AutoModelForCausalLM.from_pretrained(arguments.model)
    print(f"{type(loaded).__name__}, {sum(p.numel() for p in loaded.parameters())} parameters as {loaded.dtype}, "
          f"{type(tokenizer).__name__} of {len(tokenizer)} tokens")
    report = Report()
    with tempfile.TemporaryDirectory() as folder:
        lines = [line for line in text.splitlines(keepends=True) if line.strip()][:200]
        compare_tokens(report, arguments.dujiang, arguments.model, tokenizer, [text[:20000], *lines])
        ids = tokenizer(text, add_special_tokens=False)["input_ids"][:config.max_position_embeddings]
        compare_logits(report, arguments.dujiang, arguments.model, ids, folder)
        compare_loss(report, arguments.dujiang, arguments.model, config, tokenizer, text, folder)
    print("equal" if report.failed == 0 else f"{report.failed} comparisons differ")
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
