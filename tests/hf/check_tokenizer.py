#!/usr/bin/env python3
"""Compares our token ids with Hugging Face's, text by text.

    check_tokenizer.py DIR IDS.jsonl...
    check_tokenizer.py DIR --dujiang build/launch/dujiang TEXT...

DIR holds the tokenizer.json; each line of IDS.jsonl is {"text": ..., "ids": [...]}, as tokenizer_tool writes it. With
--dujiang the program encodes whole text files instead. Special tokens are text like any other here, as in a corpus.
`tokenizers` is needed; where `transformers` is installed, AutoTokenizer is compared too. Texts with U+2581, which a
tokenizer.json made from SentencePiece can't tell from a space, are counted and left out there. Exits with 1 at the first
difference.
"""

import argparse
import json
import subprocess
import sys
import unicodedata

from tokenizers import Tokenizer


def implementations(directory):
    tokenizer = Tokenizer.from_file(f"{directory}/tokenizer.json")
    tokenizer.encode_special_tokens = True
    tokenizer.no_truncation()
    tokenizer.no_padding()
    yield ("tokenizers", lambda text: tokenizer.encode(text, add_special_tokens=False).ids,
           lambda ids: tokenizer.decode(ids, skip_special_tokens=True))
    try:
        from transformers import AutoTokenizer
    except ImportError:
        print("transformers is not installed: AutoTokenizer is not checked")
        return
    auto = AutoTokenizer.from_pretrained(directory)
    yield ("AutoTokenizer", lambda text: auto.encode(text, add_special_tokens=False, split_special_tokens=True),
           lambda ids: auto.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))


def records(arguments):
    for path in arguments.files:
        if arguments.dujiang:
            done = subprocess.run([arguments.dujiang, "tokenizer", "encode", arguments.directory, path, "--json"],
                                  check=True, stdout=subprocess.PIPE)
            with open(path, encoding="utf-8", newline="") as text:
                yield path, text.read(), json.loads(done.stdout)["ids"]
        else:
            with open(path, encoding="utf-8", newline="\n") as lines:
                for number, line in enumerate(lines, 1):
                    record = json.loads(line)
                    yield f"{path} line {number}", record["text"], record.get("as_text", record["ids"])


def first_difference(ours, theirs):
    return next((i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b), min(len(ours), len(theirs)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory")
    parser.add_argument("files", nargs="+")
    parser.add_argument("--dujiang", help="encode plain texts with this program")
    arguments = parser.parse_args()

    checks = list(implementations(arguments.directory))
    with open(f"{arguments.directory}/tokenizer.json", encoding="utf-8") as file:
        layout = json.load(file)
    from_sentencepiece = layout["model"].get("byte_fallback", False)
    nfc = "NFC" in json.dumps(layout.get("normalizer"))
    strips = any(token["lstrip"] or token["rstrip"] for token in layout["added_tokens"])  # white space is lost then
    texts = tokens = left_out = 0
    for where, text, ours in records(arguments):
        if from_sentencepiece and "\u2581" in text:
            left_out += 1
            continue
        expected = unicodedata.normalize("NFC", text) if nfc else text
        for name, encode, decode in checks:
            theirs = encode(text)
            if theirs != ours:
                at = first_difference(ours, theirs)
                print(f"{where}: {name} differs at token {at}\n  before: {decode(ours[:at])[-40:]!r}\n"
                      f"  ours:   {ours[at:at + 8]} {decode(ours[at:at + 8])!r}\n"
                      f"  theirs: {theirs[at:at + 8]} {decode(theirs[at:at + 8])!r}")
                return 1
            if not strips and decode(ours) != expected:
                print(f"{where}: {name} decodes our ids to other text: {decode(ours)[:80]!r}, expected {expected[:80]!r}")
                return 1
        texts += 1
        tokens += len(ours)
    print(f"equal: {texts} texts, {tokens} tokens, by {' and '.join(name for name, _, _ in checks)}; "
          f"{left_out} with U+2581 left out")
    return 0 if texts else 1


if __name__ == "__main__":
    sys.exit(main())
