#!/usr/bin/env python3
"""Makes tests/data/tokenizers: one tiny byte-level BPE tokenizer per pre-tokenisation, and Hugging Face's ids.

    make_tokenizer_fixtures.py [OUT_DIR]

Each folder gets tokenizer.json and tokenizer_config.json, laid out as the model it is named after lays them out, and
golden.jsonl with {"text": ..., "ids": ..., "as_text": ..., "pieces": ...} a line: the ids with special tokens found in
the text, those with special tokens taken as text, and the pieces that the text itself is cut into. The training text is made here. Needs `tokenizers`; made with 0.23.3.
"""

import json
import pathlib
import random
import sys

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
EXPRESSIONS = {
    "llama3": [CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|" + REST],
    "qwen2": [CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|" + REST],
    "deepseek_v3": [
        r"\p{N}{1,3}",
        "[一-龥\u3040-ゟ゠-ヿ]+",
        r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|".replace('\\"', '"')
        + "[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+",
    ],
}

PARTS = [
    "都江堰", "水利工程", "江水", "分水", "成都平原", "灌溉", "岷江", "鱼嘴", "宝瓶口", "飞沙堰", "的", "是", "在", "了", "一",
    "，", "。", "：", "“水”", "——", "…", " the", " river", " of", " water", "don't", " we'll", "I'M", " 12", "2024", "3", " ",
    "  ", "\n", "\r\n", "\n\n    ", "\t", "return x;", "if (a != b) {", "http://", "カタカナ", "・", "ー", "é", "е", "½",
]

TRICKY = [
    "", " ", "都江堰水利工程在岷江上。", "江水，分水", "2024年12月31日，1234567", "a1b22c333d4444", "don't DON'T I'll we'VE 'tis x'S y'ſa z'",
    "    four\tspaces\t\t\n", "a \n b\n\n  c   \n", "line\r\nline\r\n\r\n  end ", "\n \n \n", "   ", "\u3000全角\u3000空格\u00a0x\u2003y",
    "😀👍🏽👨\u200d👩\u200d👧🇨🇳", "e\u0301 é Å \u212b ﬁ", "豈\uf900車\uf902 か\u3099が", "𠀀𪚥\U0002ebf0\U000323b0", "①②½Ⅷ٣४零〇",
    "ア・イ・ー゛゜カ゛ｶﾞ", "\u3040\u3097\u3098ぁ", "\u200b\u200b中\u200ba\ufeffb\x00\x01c", "\u0301\u0301x", "한국어 ไทย हिन्दी العربية",
    "<|endoftext|>", "a<|endoftext|>b", "<|im_start|>user\n你好<|im_end|>\n", "<think>水</think>", "<|im_start", "x <sep> y<sep>z",
    " <left>  a", "a  <left>", "b<right>  \n c", "word in sword, word-word 词word word", "<｜begin▁of▁sentence｜><｜User｜>水<｜end▁of▁sentence｜>",
    "caf\u0065\u0301s é", "http://a.b/c?d=1&e=f%20g#h", "if (x != 3) { return \"y\"; }  // z", "----====////....", "“水”——…！？；",
    "中a中1中 中\n中,中。中", "a,b.c!d\u2028e\u0085f\u000bg", "的" * 60, "水" * 7 + "a" * 70 + " " * 70, "\ue000\U000f0000\ufffd\U0010ffff",
    "Ünïcödé ÀÉÎ ßﬆ", "a\u0300\u0316b", "\u1c89\u2427\U00010d40\U00011380",
    "e\u036c\U00011a47\u0301 q\u0301\u0327\u0eba",
]


def training_text():
    draw = random.Random(1)
    weights = [draw.random() ** 2 for _ in PARTS]
    return ["".join(draw.choices(PARTS, weights, k=40)) for _ in range(1500)]


def random_texts():
    draw = random.Random(2)
    planes = [0x80, 0x800, 0x3400, 0x10000, 0x110000]
    for _ in range(40):
        out = ""
        for _ in range(draw.randrange(1, 25)):
            if draw.random() < 0.6:
                out += draw.choice(PARTS)
            else:
                code = draw.randrange(draw.choice(planes))
                out += chr(code) if not 0xD800 <= code < 0xE000 else "堰"
        yield out


def pre_tokenizer(kind):
    if kind == "gpt2":
        return pre_tokenizers.ByteLevel(add_prefix_space=False)
    splits = [pre_tokenizers.Split(Regex(expression), "isolated") for expression in EXPRESSIONS[kind]]
    return pre_tokenizers.Sequence(splits + [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def special(*contents):
    return [AddedToken(content, special=True, normalized=False) for content in contents]


# What stands in the vocabulary before training, what is added behind it, and the names in tokenizer_config.json.
TOKENS = {
    "gpt2": (["<|endoftext|>"], [], {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}),
    "llama3": ([], special("<|begin_of_text|>", "<|endoftext|>", "<|im_start|>"),
               {"bos_token": "<|begin_of_text|>", "eos_token": "<|endoftext|>"}),
    "qwen2": ([], special("<|endoftext|>", "<|im_start|>", "<|im_end|>") + [
        AddedToken("<think>", normalized=False), AddedToken("</think>", normalized=False), AddedToken("<sep>", normalized=True),
        AddedToken("<left>", lstrip=True, normalized=False), AddedToken("<right>", rstrip=True, normalized=False),
        AddedToken("word", single_word=True, normalized=False), AddedToken("cafe\u0301", normalized=True)],
              {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}),
    "deepseek_v3": (["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"], [AddedToken("<｜User｜>", normalized=False)],
                    {"bos_token": "<｜begin▁of▁sentence｜>", "eos_token": "<｜end▁of▁sentence｜>"}),
}


def make(kind, folder):
    first, added, names = TOKENS[kind]
    tokenizer = Tokenizer(models.BPE(ignore_merges=kind == "llama3"))
    tokenizer.pre_tokenizer = pre_tokenizer(kind)
    tokenizer.decoder = decoders.ByteLevel()
    if kind == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=first, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(training_text(), trainer)
    tokenizer.add_tokens([token for token in added if not token.special])
    tokenizer.add_special_tokens([token for token in added if token.special])
    if kind == "llama3":
        begin = names["bos_token"]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{begin} $A", special_tokens=[(begin, tokenizer.token_to_id(begin))])
    layout = json.loads(tokenizer.to_str())
    if kind in ("gpt2", "llama3"):  # the older spelling of merges
        layout["model"]["merges"] = [" ".join(pair) for pair in layout["model"]["merges"]]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(layout, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")
    config = {"tokenizer_class": "PreTrainedTokenizerFast", **names}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    with open(folder / "golden.jsonl", "w", encoding="utf-8") as out:
        for text in [*TRICKY, *random_texts()]:
            tokenizer.encode_special_tokens = False
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            tokenizer.encode_special_tokens = True
            as_text = tokenizer.encode(text, add_special_tokens=False).ids
            pieces = [text[begin:end] for _, (begin, end) in tokenizer.pre_tokenizer.pre_tokenize_str(text)]
            record = {"text": text, "ids": ids, "as_text": as_text, "pieces": pieces}
            out.write(json.dumps(record, separators=(",", ":")) + "\n")


def main():
    default = pathlib.Path(__file__).resolve().parent.parent / "data" / "tokenizers"
    out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else default
    for kind in TOKENS:
        make(kind, out / kind)


if __name__ == "__main__":
    main()
