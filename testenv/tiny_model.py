#!/usr/bin/env python3
"""Write a chat model of two layers with random weights: for load, where only the shape of the traffic matters.

    testenv/tiny_model.py FILE.gguf

llama.cpp serves it as it serves a real one, thousands of tokens a second. Its text means nothing, but is readable, and it never
ends an answer by itself: a request gets exactly the tokens that it allows. The same bytes come out everywhere (components.json
pins their checksum), so it is made where it is needed instead of being fetched. The format is that of GGUF version 3; nothing but
Python is needed to write it.
"""

import array
import pathlib
import random
import sys

import gguf
from gguf import CONTROL, NORMAL, boolean, byte_letters, f32, integers, text, texts, u32

WIDTH, FEED_FORWARD, LAYERS, HEADS, KEY_HEADS, CONTEXT = 64, 128, 2, 4, 2, 32768
KEY_WIDTH = WIDTH // HEADS * KEY_HEADS
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
WORDS = ("the of and to in is that for it as was with be on are by this have from or an they which you one we all their "
         "would there what so if can no more about time than into only some could these two may first then do any like "
         "question answer context model memory router tokens text").split()
TEMPLATE = ("{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
            "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")
# One direction of the hidden state is the same for every token and hardly touched by the layers, so the output can lean on it.
STEADY, LEAN = 4.0, -50.0


def vocabulary():
    """The tokens, and the merges that make a word of WORDS with the space before it one token."""
    letters = byte_letters()
    tokens, merges = [*SPECIAL, *(letters[byte] for byte in range(256))], []
    for word in WORDS:
        whole = letters[ord(" ")]
        for letter in word:
            if whole + letter not in tokens:
                tokens.append(whole + letter)
                merges.append(f"{whole} {letter}")
            whole += letter
    return tokens, merges


def may_be_said(token):
    """Whether an answer may contain it: the words, no single bytes that could break a character, no end."""
    return token not in SPECIAL and len(token) > 1


class Weights:
    def __init__(self):
        self.random = random.Random(20260101)
        self.tensors = []

    def matrix(self, name, inputs, outputs):
        scale = inputs ** -0.5
        self.add(name, (inputs, outputs), [self.random.uniform(-scale, scale) for _ in range(inputs * outputs)])

    def ones(self, name):
        self.add(name, (WIDTH,), [1.0] * WIDTH)

    def add(self, name, shape, values):
        floats = array.array("f", values)
        if sys.byteorder == "big":
            floats.byteswap()
        self.tensors.append((name, shape, floats.tobytes()))


def weights(tokens):
    model = Weights()
    uniform = model.random.uniform
    model.add("token_embd.weight", (WIDTH, len(tokens)),
              [v for _ in tokens for v in (STEADY, *(uniform(-1, 1) for _ in range(WIDTH - 1)))])
    model.add("output.weight", (WIDTH, len(tokens)),
              [v for token in tokens
               for v in (0.0 if may_be_said(token) else LEAN, *(uniform(-1, 1) for _ in range(WIDTH - 1)))])
    model.ones("output_norm.weight")
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        model.ones(block + "attn_norm.weight")
        model.ones(block + "ffn_norm.weight")
        model.matrix(block + "attn_q.weight", WIDTH, WIDTH)
        model.matrix(block + "attn_k.weight", WIDTH, KEY_WIDTH)
        model.matrix(block + "attn_v.weight", WIDTH, KEY_WIDTH)
        model.matrix(block + "attn_output.weight", WIDTH, WIDTH)
        model.matrix(block + "ffn_gate.weight", WIDTH, FEED_FORWARD)
        model.matrix(block + "ffn_up.weight", WIDTH, FEED_FORWARD)
        model.matrix(block + "ffn_down.weight", FEED_FORWARD, WIDTH)
    return model.tensors


def keys(tokens, merges):
    return {
        "general.architecture": text("llama"),
        "general.name": text("Weir tiny random"),
        "general.license": text("Apache-2.0"),
        "general.file_type": u32(0),
        "llama.block_count": u32(LAYERS),
        "llama.context_length": u32(CONTEXT),
        "llama.embedding_length": u32(WIDTH),
        "llama.feed_forward_length": u32(FEED_FORWARD),
        "llama.attention.head_count": u32(HEADS),
        "llama.attention.head_count_kv": u32(KEY_HEADS),
        "llama.attention.layer_norm_rms_epsilon": f32(1e-5),
        "llama.rope.freq_base": f32(10000.0),
        "llama.rope.dimension_count": u32(WIDTH // HEADS),
        "llama.vocab_size": u32(len(tokens)),
        "tokenizer.ggml.model": text("gpt2"),
        "tokenizer.ggml.pre": text("smollm"),
        "tokenizer.ggml.tokens": texts(tokens),
        "tokenizer.ggml.token_type": integers([CONTROL if token in SPECIAL else NORMAL for token in tokens]),
        "tokenizer.ggml.merges": texts(merges),
        "tokenizer.ggml.bos_token_id": u32(SPECIAL.index("<|im_start|>")),
        "tokenizer.ggml.eos_token_id": u32(SPECIAL.index("<|im_end|>")),
        "tokenizer.ggml.unknown_token_id": u32(0),
        "tokenizer.ggml.padding_token_id": u32(SPECIAL.index("<|im_end|>")),
        "tokenizer.ggml.add_bos_token": boolean(False),
        "tokenizer.ggml.add_space_prefix": boolean(False),
        "tokenizer.chat_template": text(TEMPLATE),
    }


def model():
    tokens, merges = vocabulary()
    tensors = weights(tokens)
    body = b"".join(data + gguf.padding(len(data)) for _, _, data in tensors)
    return gguf.head(keys(tokens, merges), [(name, shape, gguf.FLOAT32, len(data)) for name, shape, data in tensors]) + body


def main():
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    pathlib.Path(sys.argv[1]).write_bytes(model())


if __name__ == "__main__":
    main()
