#!/usr/bin/env python3
"""Reads a fresh checkpoint with Hugging Face's own libraries: tensors, config.json, token ids.

    check_files.py CHECKPOINT TEXTS... DUJIANG

Needs tokenizers, safetensors and numpy, which launch/test.sh installs into build/venv; DUJIANG_PYTHON names another
interpreter that has them. Without them prints why and exits with 77. TEXTS: .jsonl with {"text": ...} a line, else plain
text as a whole. Of a SentencePiece model's, lines with U+2581 are left out: Hugging Face can't tell it from a space.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve()
PYTHON = os.environ.get("DUJIANG_PYTHON") or str(HERE.parents[2] / "build/venv/bin/python")
try:
    import numpy
    import safetensors
    import tokenizers
except ImportError as missing:
    if os.environ.get("DUJIANG_CHECK_FILES") or not os.access(PYTHON, os.X_OK):
        print(f"skipped: {missing}, and no interpreter that has it at {PYTHON} (launch/test.sh makes it)")
        sys.exit(77)
    os.environ["DUJIANG_CHECK_FILES"] = "1"  # once is enough
    os.execv(PYTHON, [PYTHON, str(HERE), *sys.argv[1:]])

# The integers behind a bf16 or other tensor, which numpy alone has no type for.
WIDTH = {"F32": 4, "BF16": 2, "F16": 2}


def header_of(path):
    """The header as the format describes it, read without the library: 8 bytes of length, then JSON."""
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    return json.loads(raw[8:8 + length]), raw[8 + length:]


def expected_shapes(config):
    h, d = config["hidden_size"], config["head_dim"]
    heads, kv, ffn = config["num_attention_heads"] * d, config["num_key_value_heads"] * d, config["intermediate_size"]
    shapes = {"model.embed_tokens.weight": [config["vocab_size"], h], "model.norm.weight": [h]}
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = [config["vocab_size"], h]
    for layer in range(config["num_hidden_layers"]):
        for name, shape in {
                "input_layernorm": [h], "post_attention_layernorm": [h], "self_attn.q_norm": [d], "self_attn.k_norm": [d],
                "self_attn.q_proj": [heads, h], "self_attn.k_proj": [kv, h], "self_attn.v_proj": [kv, h],
                "self_attn.o_proj": [h, heads], "mlp.gate_proj": [ffn, h], "mlp.up_proj": [ffn, h],
                "mlp.down_proj": [h, ffn]}.items():
            shapes[f"model.layers.{layer}.{name}.weight"] = shape
    return shapes


def check_config(checkpoint):
    config = json.loads((checkpoint / "config.json").read_text())
    assert config["architectures"] == ["Qwen3ForCausalLM"] and config["model_type"] == "qwen3", config
    assert config["rope_theta"] == config["rope_parameters"]["rope_theta"], "the two spellings of rope_theta differ"
    assert config["torch_dtype"] == config["dtype"], "the two spellings of dtype differ"
    generation = json.loads((checkpoint / "generation_config.json").read_text())
    assert generation["eos_token_id"] == config["eos_token_id"]
    return config


def check_tensors(checkpoint, config):
    path = checkpoint / "model.safetensors"
    header, data = header_of(path)
    assert header.pop("__metadata__") == {"format": "pt"}, "transformers refuses other formats"
    shapes = expected_shapes(config)
    word = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}[config["torch_dtype"]]
    assert set(header) == set(shapes), set(header) ^ set(shapes)
    elements = 0
    with safetensors.safe_open(path, framework="numpy") as file:
        assert set(file.keys()) == set(shapes)
        for name, shape in shapes.items():
            view = file.get_slice(name)
            assert view.get_shape() == shape == header[name]["shape"], name
            assert view.get_dtype() == word, (name, view.get_dtype())
            begin, end = header[name]["data_offsets"]
            values = numpy.frombuffer(data[begin:end], {4: numpy.uint32, 2: numpy.uint16}[WIDTH[word]])
            if word == "BF16":
                values = values.astype(numpy.uint32) << 16
            values = values.view(numpy.float16 if word == "F16" else numpy.float32).astype(numpy.float32)
            assert numpy.isfinite(values).all() and values.std() < 10, name
            elements += values.size
    with safetensors.safe_open(checkpoint / "optimizer/optimizer.safetensors", framework="numpy") as file:
        for name in file.keys():
            tensor = file.get_tensor(name)
            parameter, kind = name.rsplit(".", 1)
            assert tensor.dtype == numpy.float32 and list(tensor.shape) == shapes[parameter], name
            assert kind in ("master", "m", "v") and (kind != "v" or (tensor >= 0).all()), name
    return elements


def texts_of(path, sentencepiece):
    content = path.read_text(encoding="utf-8")
    if path.suffix == ".jsonl":
        return [json.loads(line)["text"] for line in content.splitlines()]
    if not sentencepiece:
        return [content]
    return ["".join(line for line in content.splitlines(keepends=True) if "\u2581" not in line)]


def excerpt(ours, theirs):
    """Where two lists of ids part."""
    at = next((i for i, pair in enumerate(zip(ours, theirs)) if pair[0] != pair[1]), min(len(ours), len(theirs)))
    return f"id {at} on: ours {ours[at:at + 8]}, tokenizers {theirs[at:at + 8]}"


def check_tokens(checkpoint, paths, dujiang):
    theirs = tokenizers.Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    count = tokens = 0
    sentencepiece = (checkpoint / "tokenizer.model").exists()
    for path, text in ((path, text) for path in paths for text in texts_of(path, sentencepiece)):
        done = subprocess.run([dujiang, "tokenizer", "encode", checkpoint, "--json"], input=text.encode(),
                              stdout=subprocess.PIPE, check=True)
        ours = json.loads(done.stdout)["ids"]
        expected = theirs.encode(text).ids
        assert ours == expected, f"{path}: {excerpt(ours, expected)}"
        assert theirs.decode(ours, skip_special_tokens=True) == text, f"{path}: decoded to another text"
        count, tokens = count + 1, tokens + len(ours)
    assert tokens > 0
    return count, tokens


def main():
    root, *texts = map(Path, sys.argv[1:-1])
    dujiang = sys.argv[-1]
    checkpoint = max(root.glob("step-*"), default=root)  # the newest, where a folder of checkpoints is given
    config = check_config(checkpoint)
    elements = check_tensors(checkpoint, config)
    count, tokens = check_tokens(checkpoint, texts, dujiang)
    print(f"{checkpoint}: {elements} weights as safetensors {safetensors.__version__} and numpy {numpy.__version__} read "
          f"them; {tokens} ids of {count} texts equal those of tokenizers {tokenizers.__version__}")


if __name__ == "__main__":
    main()
