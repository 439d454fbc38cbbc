#!/usr/bin/env python3
"""Byte-level BPE with tiktoken and Hugging Face's tokenizers, on one core: for tests/bench/tokenizer.sh.

    tokenizer_peers.py text OUT PROSE.jsonl.zst POEMS.jsonl.zst    all prose and 8 MB of poems, as one text
    tokenizer_peers.py train DIR TEXT VOCAB_SIZE                   a tokenizer with Qwen2's pre-tokenisation
    tokenizer_peers.py encode DIR TEXT                             a JSON line: tokens and MB/s of each

Needs `tokenizers` and `tiktoken`, and `zstandard` for the text.
"""

import io
import json
import os
import sys
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"

EXPRESSION = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
              r"|\s*[\r\n]+|\s+(?!\S)|\s+")


def make_text(out, prose, poems):
    import zstandard

    def texts(path):
        with open(path, "rb") as file:
            for line in io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(file), encoding="utf-8"):
                yield json.loads(line)["text"] + "\n"

    with open(out, "wb") as file:
        for text in texts(prose):
            file.write(text.encode())
        left = 8_000_000
        for number, text in enumerate(texts(poems)):
            if number % 8 == 0 and left > 0:
                left -= file.write(text.encode())


def train(directory, path, vocab_size):
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(EXPRESSION), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=["<|endoftext|>"], show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    with open(path, encoding="utf-8", newline="") as file:
        tokenizer.train_from_iterator(file.read().splitlines(True), trainer)
    os.makedirs(directory, exist_ok=True)
    tokenizer.save(f"{directory}/tokenizer.json")


def byte_spellings():
    others = iter(range(256, 512))
    return {chr(b if 0x21 <= b <= 0x7E or (b >= 0xA1 and b != 0xAD) else next(others)): b for b in range(256)}


def encode(directory, path):
    import tiktoken
    from tokenizers import Tokenizer

    layout = json.load(open(f"{directory}/tokenizer.json", encoding="utf-8"))
    splits = [step["pattern"]["Regex"] for step in layout["pre_tokenizer"].get("pretokenizers", []) if step["type"] == "Split"]
    if len(splits) != 1:
        sys.exit(f"{directory}: tiktoken needs a pre-tokenisation of one expression, found {len(splits)}")
    spellings = byte_spellings()
    added = {token["content"] for token in layout["added_tokens"]}
    ranks = {bytes(spellings[c] for c in token): rank for token, rank in layout["model"]["vocab"].items() if token not in added}
    theirs = tiktoken.Encoding("compared", pat_str=splits[0], mergeable_ranks=ranks, special_tokens={})
    tokenizer = Tokenizer.from_file(f"{directory}/tokenizer.json")

    with open(path, encoding="utf-8", newline="") as file:
        lines = file.read().splitlines(True)
    documents, size = [[]], 0
    for line in lines:  # of about 64 KiB, as `dujiang bench tokenizer` cuts
        documents[-1].append(line)
        size += len(line.encode())
        if size >= 65536:
            documents.append([])
            size = 0
    documents = ["".join(document) for document in documents]
    megabytes = sum(len(document.encode()) for document in documents) / 1e6
    result = {}
    for name, call in (("tiktoken", theirs.encode_ordinary), ("tokenizers", lambda text: tokenizer.encode(text, add_special_tokens=False).ids)):
        start = time.perf_counter()
        result[f"{name}_tokens"] = sum(len(call(document)) for document in documents)
        result[f"{name}_mb_per_s"] = megabytes / (time.perf_counter() - start)
    print(json.dumps(result))


if __name__ == "__main__":
    arguments = sys.argv[2:]
    if sys.argv[1:2] == ["text"] and len(arguments) == 3:
        make_text(*arguments)
    elif sys.argv[1:2] == ["train"] and len(arguments) == 3:
        train(arguments[0], arguments[1], int(arguments[2]))
    elif sys.argv[1:2] == ["encode"] and len(arguments) == 2:
        encode(*arguments)
    else:
        sys.exit(__doc__)
