#!/usr/bin/env python3
"""Writes tests/hf/fixture: small random Qwen3 models and what transformers and PyTorch make of them.

    make_fixture.py [OUT]

For `untied` and `tied` embeddings: the model directory as transformers saves it, and expected.safetensors with a packed
batch and, in fp32, the logits, the loss, every gradient (grad.NAME) and the weights after five clipped AdamW steps
(after.NAME). Run once with torch and transformers; the result is committed, with the versions in its metadata.
"""

import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file

NO_LABEL = -100
LENGTH = 16
# Token counts of the documents of each row; a row's rest is padding, a segment of its own.
ROWS = [[16], [5, 11], [1, 9]]
STEPS, LR, BETAS, EPS, DECAY, CLIP = 5, 1e-3, (0.9, 0.95), 1e-8, 0.1, 1.0


def make_model(tied):
    torch.manual_seed(20 + tied)
    config = transformers.Qwen3Config(
        vocab_size=96, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=16,
        intermediate_size=64, max_position_embeddings=64, rope_theta=10000.0, tie_word_embeddings=tied,
        initializer_range=0.15, bos_token_id=None, eos_token_id=0)
    config._attn_implementation = "eager"
    model = transformers.Qwen3ForCausalLM(config).float()
    with torch.no_grad():  # fresh norms are all ones, which would hide a swapped one
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model.train()


def make_batch():
    generator = torch.Generator().manual_seed(7)
    rows = len(ROWS)
    batch = {
        "tokens": torch.zeros(rows, LENGTH, dtype=torch.int32),
        "labels": torch.full((rows, LENGTH), NO_LABEL, dtype=torch.int32),
        "loss_weight": torch.zeros(rows, LENGTH),
        "positions": torch.zeros(rows, LENGTH, dtype=torch.int32),
    }
    segments = [0]
    for row, documents in enumerate(ROWS):
        start = 0
        for size in documents + ([LENGTH - sum(documents)] if sum(documents) < LENGTH else []):
            end = start + size
            batch["positions"][row, start:end] = torch.arange(size)
            segments.append(row * LENGTH + end)
            start = end
        start = 0
        for size in documents:
            end = start + size
            # The last token of a document that is cut by the row's end has a label; one that ends has none.
            text = torch.randint(1, 96, (size + 1,), generator=generator, dtype=torch.int32)
            labels = size if end == LENGTH else size - 1
            batch["tokens"][row, start:end] = text[:size]
            batch["labels"][row, start:start + labels] = text[1:labels + 1]
            batch["loss_weight"][row, start:start + labels] = 1.0
            start = end
    batch["segments"] = torch.tensor(segments, dtype=torch.int32)
    return batch


def all_logits(model, batch):
    """Each segment on its own, which is what packing must amount to."""
    tokens = batch["tokens"].flatten().long()
    bounds = batch["segments"].tolist()
    return torch.cat([model(tokens[a:b][None]).logits[0] for a, b in zip(bounds, bounds[1:])])


def loss_of(logits, batch):
    labels = batch["labels"].flatten().long()
    return torch.nn.functional.cross_entropy(logits.float(), labels, ignore_index=NO_LABEL)


def make_expected(model, batch):
    expected = dict(batch)
    logits = all_logits(model, batch)
    loss = loss_of(logits, batch)
    loss.backward()
    expected["logits"] = logits.detach()
    expected["loss"] = loss.detach()[None]
    named = dict(model.named_parameters())
    for name, parameter in named.items():
        expected["grad." + name] = parameter.grad.clone()
    with torch.no_grad():
        half = transformers.Qwen3ForCausalLM(model.config)
        half.load_state_dict(model.state_dict())
        expected["bf16_logits"] = all_logits(half.bfloat16(), batch).float()

    decayed = [p for p in named.values() if p.dim() > 1]
    plain = [p for p in named.values() if p.dim() == 1]
    optimizer = torch.optim.AdamW([{"params": decayed, "weight_decay": DECAY}, {"params": plain, "weight_decay": 0.0}],
                                  lr=LR, betas=BETAS, eps=EPS, foreach=False)
    losses, norms = [], []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = loss_of(all_logits(model, batch), batch)
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP))
        losses.append(loss.detach())
        optimizer.step()
    assert min(norms) > CLIP, "the fixture is meant to be clipped"
    expected["losses"], expected["norms"] = torch.stack(losses), torch.stack(norms)
    for name, parameter in named.items():
        expected["after." + name] = parameter.detach().clone()
    return {name: tensor.contiguous() for name, tensor in expected.items()}


def main():
    out = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "fixture")
    torch.set_num_threads(1)
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    for name, tied in (("untied", False), ("tied", True)):
        model, batch = make_model(tied), make_batch()
        model.save_pretrained(out / name)
        save_file(make_expected(model, batch), out / name / "expected.safetensors", metadata=versions)
    for path in sorted(out.rglob("*")):
        if path.is_file():
            print(f"{path.stat().st_size:8d} {path.relative_to(out)}")


if __name__ == "__main__":
    main()
