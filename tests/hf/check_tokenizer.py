#!/usr/bin/env python3
"""Compares our token ids with Hugging Face's, line by line.

    check_tokenizer.py DIR IDS.jsonl...

DIR holds the tokenizer.json; each line of IDS.jsonl is {"text": ..., "ids": [...]}, as `dujiang tokenizer encode --json`
writes it. `tokenizers` is needed; where `transformers` is installed, AutoTokenizer is compared too. Texts with U+2581,
which Hugging Face can't tell from a space, are counted and left out. Exits with 1 at the first difference.
"""

import argparse
import json
import sys

from tokenizers import Tokenizer


def implementations(directory):
    tokenizer = Tokenizer.from_file(f"{directory}/tokenizer.json")
    yield "tokenizers", lambda text: tokenizer.encode(text).ids, lambda ids: tokenizer.decode(ids, skip_special_tokens=True)
    try:
        from transformers import AutoTokenizer
    except ImportError:
        print("transformers is not installed: AutoTokenizer is not checked")
        return
    auto = AutoTokenizer.from_pretrained(directory)
    yield "AutoTokenizer", lambda text: auto.encode(text), lambda ids: auto.decode(ids, skip_special_tokens=True)


def first_difference(ours, theirs):
    return next((i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b), min(len(ours), len(theirs)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory")
    parser.add_argument("ids", nargs="+")
    arguments = parser.parse_args()

    checks = list(implementations(arguments.directory))
    texts = tokens = left_out = 0
    for path in arguments.ids:
        with open(path, encoding="utf-8", newline="\n") as lines:
            for number, line in enumerate(lines, 1):
                record = json.loads(line)
                text, ours = record["text"], record["ids"]
                if "\u2581" in text:
                    left_out += 1
                    continue
                for name, encode, decode in checks:
                    theirs = encode(text)
                    if theirs != ours:
                        at = first_difference(ours, theirs)
                        print(f"{path} line {number}: {name} differs at token {at}\n  before: {decode(ours[:at])[-40:]!r}\n"
                              f"  ours:   {ours[at:at + 8]} {decode(ours[at:at + 8])!r}\n"
                              f"  theirs: {theirs[at:at + 8]} {decode(theirs[at:at + 8])!r}")
                        return 1
                    if decode(ours) != text:
                        print(f"{path} line {number}: {name} decodes our ids to other text: {decode(ours)[:80]!r}, expected {text[:80]!r}")
                        return 1
                texts += 1
                tokens += len(ours)
    print(f"equal: {texts} texts, {tokens} tokens, by {' and '.join(name for name, _, _ in checks)}; "
          f"{left_out} with U+2581 left out")
    return 0 if texts else 1


if __name__ == "__main__":
    sys.exit(main())
