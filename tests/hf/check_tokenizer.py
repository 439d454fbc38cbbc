#!/usr/bin/env python3
"""Compares our token ids with Hugging Face's, text by text.

    check_tokenizer.py DIR IDS.jsonl...
    check_tokenizer.py DIR --dujiang build/launch/dujiang TEXT...
    check_tokenizer.py DIR --torture OUT.jsonl

DIR holds the tokenizer.json; each line of IDS.jsonl is {"text": ..., "ids": [...]}, as `tokenizer_tool encode` writes
it: with special tokens taken as text, as in a corpus, and found in it, and with what decoding gives. With --dujiang the
program encodes whole text files instead, special tokens as text. --torture writes texts to encode: those of the tests,
characters drawn from all planes, and DIR's added tokens beside, inside and after one another.
`tokenizers` is needed; where `transformers` is installed, AutoTokenizer is compared too. Texts with U+2581, which a
tokenizer.json made from SentencePiece can't tell from a space, are counted and left out there. Exits with 1 at the first
difference.
"""

import argparse
import json
import random
import subprocess
import sys

from make_tokenizer_fixtures import TRICKY, random_texts
from tokenizers import Tokenizer, normalizers


# Of each its name, the ids with special tokens as text or found, and the text of ids.
def implementations(directory):
    tokenizer = Tokenizer.from_file(f"{directory}/tokenizer.json")
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def encode(text, as_text):
        tokenizer.encode_special_tokens = as_text
        return tokenizer.encode(text, add_special_tokens=False).ids

    yield "tokenizers", encode, lambda ids: tokenizer.decode(ids, skip_special_tokens=True)
    try:
        from transformers import AutoTokenizer
    except ImportError:
        print("transformers is not installed: AutoTokenizer is not checked")
        return
    auto = AutoTokenizer.from_pretrained(directory)
    yield ("AutoTokenizer",
           lambda text, as_text: auto.encode(text, add_special_tokens=False, split_special_tokens=as_text),
           lambda ids: auto.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))


def records(arguments):
    for path in arguments.files:
        if arguments.dujiang:
            done = subprocess.run([arguments.dujiang, "tokenizer", "encode", arguments.directory, path, "--json"],
                                  check=True, stdout=subprocess.PIPE)
            with open(path, encoding="utf-8", newline="") as text:
                yield path, {"text": text.read(), "ids": json.loads(done.stdout)["ids"]}
        else:
            with open(path, encoding="utf-8", newline="\n") as lines:
                for number, line in enumerate(lines, 1):
                    yield f"{path} line {number}", json.loads(line)


def write_torture(path, added):
    draw = random.Random(3)
    texts = [*TRICKY, *random_texts()]
    for content in added:
        texts += [content, f"水{content}water", f" {content}\n", content + content, content[:-1], content[1:]]
    for _ in range(500):
        text = draw.choice(texts)
        for _ in range(draw.randrange(3)):
            at = draw.randrange(len(text) + 1)
            text = text[:at] + draw.choice(added or [" "]) + text[at:] + draw.choice(texts)
        texts.append(text)
    for _ in range(500):
        codes = [draw.randrange(draw.choice([0x80, 0x800, 0x3400, 0x10000, 0x110000])) for _ in range(60)]
        texts.append("".join(chr(code) for code in codes if not 0xD800 <= code < 0xE000))
    with open(path, "w", encoding="utf-8") as out:
        out.writelines(json.dumps({"text": text}) + "\n" for text in texts if text)


def first_difference(ours, theirs):
    return next((i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b), min(len(ours), len(theirs)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory")
    parser.add_argument("files", nargs="*")
    parser.add_argument("--dujiang", help="encode plain texts with this program")
    parser.add_argument("--torture", metavar="OUT", help="write texts to encode")
    arguments = parser.parse_args()

    with open(f"{arguments.directory}/tokenizer.json", encoding="utf-8") as file:
        layout = json.load(file)
    if arguments.torture:
        write_torture(arguments.torture, [token["content"] for token in layout["added_tokens"]])
        return 0
    checks = list(implementations(arguments.directory))
    from_sentencepiece = layout["model"].get("byte_fallback", False)
    nfc = "NFC" in json.dumps(layout.get("normalizer"))
    strips = any(token["lstrip"] or token["rstrip"] for token in layout["added_tokens"])  # white space is lost then
    texts = tokens = left_out = 0
    for where, record in records(arguments):
        text, ours = record["text"], record["ids"]
        if from_sentencepiece and "\u2581" in text:
            left_out += 1
            continue
        expected = normalizers.NFC().normalize_str(text) if nfc else text  # Python's knows newer characters
        if not (strips or arguments.dujiang) and record.get("decoded", text) != expected:
            print(f"{where}: we decode to other text: {record.get('decoded', text)[:80]!r}, expected {expected[:80]!r}")
            return 1
        for name, encode, decode in checks:
            for kind, ids, theirs in (("", ours, encode(text, True)),
                                      (", special tokens found,", record.get("matched", ours), encode(text, False))):
                if arguments.dujiang and kind:
                    continue
                if theirs != ids:
                    at = first_difference(ids, theirs)
                    print(f"{where}: {name}{kind} differs at token {at}\n  before: {decode(ids[:at])[-40:]!r}\n"
                          f"  ours:   {ids[at:at + 8]} {decode(ids[at:at + 8])!r}\n"
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
