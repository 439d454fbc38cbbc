#!/usr/bin/env python3
"""Makes a large corpus of a small one: JSON lines whose texts are runs of lines drawn from the documents of JSON-lines
files (zstd or plain). One text in twenty stands twice, one in twenty again with a line less.

    sample_corpus.py BYTES FILE... >corpus.jsonl
"""
import json
import random
import subprocess
import sys


def texts(path):
    command = ["zstd", "-dc", path] if path.endswith(".zst") else ["cat", path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8") as lines:
        for line in lines.stdout:
            yield json.loads(line)["text"]


def main():
    size, files = int(float(sys.argv[1])), sys.argv[2:]
    lines = [line for path in files for text in texts(path) for line in text.split("\n") if len(line) > 3]
    draw = random.Random(1)
    written, last = 0, []
    while written < size:
        chance = draw.random()
        if chance < 0.05 and last:
            text = last
        elif chance < 0.1 and len(last) > 3:
            text = last[:-1]
        else:
            # A document has about 1.6 KB: runs of neighbouring lines from several places.
            text = []
            for _ in range(draw.randrange(2, 8)):
                begin = draw.randrange(len(lines))
                text += lines[begin : begin + draw.randrange(1, 10)]
        last = text
        line = json.dumps({"text": "\n".join(text)}, ensure_ascii=False) + "\n"
        written += len(line.encode())
        sys.stdout.write(line)


main()
