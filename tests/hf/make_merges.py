#!/usr/bin/env python3
"""Writes tests/golden/merges.json: what Hugging Face's `tokenizers` learns from a small text.

    make_merges.py > tests/golden/merges.json

The text holds what decides between trainers: pairs that are equally frequent, runs of one character, characters of one
to four bytes. Ids as in data/tokenizer/train_byte_bpe.h: the bytes, then the merges.
"""

import json

import tokenizers
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")

TEXTS = [
    "都江堰水利工程位于四川省成都市都江堰市城西，是中国古代建设并使用至今的大型水利工程。\n",
    "秦昭王后期，蜀郡守李冰父子率众修建，成都平原从此水旱从人，不知饥馑，时无荒年，天下谓之天府也。\n",
    "两个黄鹂鸣翠柳，一行白鹭上青天。窗含西岭千秋雪，门泊东吴万里船。\n",
    "窗前明月光，疑是地上霜。举头望明月，低头思故乡。举头望山月，低头思故乡。\n",
    "    for (int i = 0; i < 2024; ++i) {\n        total += values[i] * values[i];  // the sum of squares\n    }\n",
    "the water of the river, the river of the plain; that's the plain's water, isn't it?\n",
    "==========\n----------------\naaaaaaa aaaa aaaaaa aaaaaaaaa abababab ababab bababa\n\n\n\n",
    "𠮷野家 𠮷 😀😀😀 é ü ｆｕｌｌ　ｗｉｄｔｈ！！！……——\n",
]


def learn(pre_tokenizer, min_frequency):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    trainer = trainers.BpeTrainer(vocab_size=256 + 300, min_frequency=min_frequency, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(TEXTS, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return [[model["vocab"][left], model["vocab"][right]] for left, right in model["merges"]]


def main():
    kinds = {
        "gpt2": pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        "qwen2": pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(QWEN2), "isolated"),
                                          pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]),
    }
    learnt = [{"pretokenizer": kind, "min_frequency": least, "merges": learn(cut, least)}
              for kind, cut in kinds.items() for least in (1, 2)]
    print(json.dumps({"made_with": f"tokenizers {tokenizers.__version__}", "texts": TEXTS, "learnt": learnt},
                     ensure_ascii=False))


if __name__ == "__main__":
    main()
