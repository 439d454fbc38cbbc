#!/usr/bin/env python3
"""Near-duplicate pairs by datasketch, with the shingles, bands, rows and threshold of our defaults.

  dedup_datasketch.py FILE.jsonl[.zst] [documents] [processes]

Beside it: bench_dedup FILE FOLDER threads documents. Needs datasketch 2 and, for .zst, zstandard.
"""
import io
import json
import multiprocessing
import sys
import time
import unicodedata
import zlib

from datasketch import MinHash, MinHashLSH

NGRAM, BANDS, ROWS, THRESHOLD = 5, 16, 7, 0.8
# The scheme is the default (and the fastest) of datasketch 2; its default hash, SHA-1, is slower than CRC-32.
SKETCH = {"num_perm": BANDS * ROWS, "scheme": "affine32", "hashfunc": zlib.crc32}
COUNTS = {}


def counts(character):
    known = COUNTS.get(character)
    if known is None:
        category = unicodedata.category(character)
        known = COUNTS[character] = category[0] not in "PSZ" and category not in ("Cc", "Cf")
    return known


def shingles(text):
    letters = "".join(filter(counts, text))
    if not letters:
        return set()
    return {letters[i : i + NGRAM] for i in range(max(1, len(letters) - NGRAM + 1))}


def signature(text):
    minhash = MinHash(**SKETCH)
    grams = shingles(text)
    if not grams:
        return None
    minhash.update_batch([gram.encode() for gram in grams])
    return minhash.hashvalues


def read(path, limit):
    with open(path, "rb") as raw:
        if path.endswith(".zst"):
            import zstandard

            raw = zstandard.ZstdDecompressor().stream_reader(raw)
        texts = []
        for line in io.TextIOWrapper(raw, encoding="utf-8"):
            if len(texts) == limit:
                break
            texts.append(json.loads(line)["text"])
    return texts


def twins(pairs):
    first = {}

    def root(a):
        while first.setdefault(a, a) != a:
            first[a] = first[first[a]]
            a = first[a]
        return a

    for a, b in pairs:
        x, y = sorted((root(a), root(b)))
        first[y] = x
    return sum(a != b for a, b in first.items())


def main():
    path = sys.argv[1]
    limit = int(sys.argv[2]) if len(sys.argv) > 2 else -1
    processes = int(sys.argv[3]) if len(sys.argv) > 3 else 2
    texts = read(path, limit)

    begin = time.perf_counter()
    with multiprocessing.Pool(processes) as pool:
        signatures = pool.map(signature, texts, chunksize=1000)
    signed = time.perf_counter()
    lsh = MinHashLSH(num_perm=BANDS * ROWS, params=(BANDS, ROWS))
    candidates = set()
    for document, values in enumerate(signatures):
        if values is None:
            continue
        minhash = MinHash(hashvalues=values, **SKETCH)
        candidates.update((other, document) for other in lsh.query(minhash))
        lsh.insert(document, minhash, check_duplication=False)
    matched = time.perf_counter()
    pairs = []
    for a, b in candidates:
        x, y = shingles(texts[a]), shingles(texts[b])
        if len(x & y) >= THRESHOLD * len(x | y):
            pairs.append((a, b))
    end = time.perf_counter()
    print(
        f"{len(texts)} documents, {processes} processes: signatures {signed - begin:.2f} s, "
        f"index and query {matched - signed:.2f} s, verify {end - matched:.2f} s, total {end - begin:.2f} s; "
        f"{len(candidates)} candidates, {len(pairs)} pairs, {twins(pairs)} twins go"
    )


if __name__ == "__main__":
    main()
