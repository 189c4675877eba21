#!/usr/bin/env python3
"""Write a model of LFM2's exact shape with random weights: for speed, memory and cache behaviour, never for quality.

    testenv/lfm2_model.py 350M|700M|1.2B|2.6B Q4_0|Q5_0|Q8_0 FILE.gguf

An engine reads and writes with it as fast as with the real one, whose weights are not here. Its text means nothing. Every matrix
has the quantization that is asked for, so a file is a little smaller than a published one, which keeps some in a finer one.
"""

import pathlib
import random
import struct
import sys

import gguf
from gguf import CONTROL, NORMAL, boolean, byte_letters, f32, integers, text, texts, u32

# Width, heads, width of the feed-forward part, layers, which of them attend (the others are convolutions), and all weights together.
SHAPES = {
    "350M": (1024, 16, 4608, 16, (2, 5, 8, 10, 12, 14), 354_483_968),
    "700M": (1536, 24, 6912, 16, (2, 5, 8, 10, 12, 14), 742_489_344),
    "1.2B": (2048, 32, 8192, 16, (2, 5, 8, 10, 12, 14), 1_170_340_608),
    "2.6B": (2048, 32, 10752, 30, (2, 5, 9, 13, 17, 21, 24, 27), 2_569_272_320),
}
HEAD_WIDTH, KEY_HEADS, CONVOLUTION, CONTEXT, VOCABULARY = 64, 8, 3, 32768, 65536
BLOCK = 32
# By quantization: its numbers in GGUF (of a tensor, of a file), bytes of a block beside the scale, and the spread of what random bytes
# stand for when the scale is 1.
QUANTIZATIONS = {"Q4_0": (2, 2, 16, 4.6), "Q5_0": (6, 8, 20, 9.2), "Q8_0": (8, 7, 32, 73.9)}
TILE_BLOCKS = 1 << 15
SPECIAL = ["<|pad|>", "<|startoftext|>", "<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = ("{{ bos_token }}{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + "
            "'<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")


def tensors(shape):
    """Name, shape and whether it is quantized, of every tensor."""
    width, _, feed_forward, layers, attends, _ = SHAPES[shape]
    keys = KEY_HEADS * HEAD_WIDTH
    yield "token_embd.weight", (width, VOCABULARY), True
    yield "token_embd_norm.weight", (width,), False
    for layer in range(layers):
        block = f"blk.{layer}."
        yield block + "attn_norm.weight", (width,), False
        yield block + "ffn_norm.weight", (width,), False
        yield block + "ffn_gate.weight", (width, feed_forward), True
        yield block + "ffn_up.weight", (width, feed_forward), True
        yield block + "ffn_down.weight", (feed_forward, width), True
        if layer in attends:
            yield block + "attn_q.weight", (width, width), True
            yield block + "attn_k.weight", (width, keys), True
            yield block + "attn_v.weight", (width, keys), True
            yield block + "attn_output.weight", (width, width), True
            yield block + "attn_q_norm.weight", (HEAD_WIDTH,), False
            yield block + "attn_k_norm.weight", (HEAD_WIDTH,), False
        else:
            yield block + "shortconv.conv.weight", (CONVOLUTION, width), False
            yield block + "shortconv.in_proj.weight", (width, 3 * width), True
            yield block + "shortconv.out_proj.weight", (width, width), True


def weights_of(shape):
    count = 1
    for length in shape:
        count *= length
    return count


def facts(shape, quantization):
    width, heads, feed_forward, layers, attends, _ = SHAPES[shape]
    letters = byte_letters()
    tokens = [*SPECIAL, *(letters[byte] for byte in range(256))]
    tokens += [f"{letters[ord(' ')]}token{number}" for number in range(VOCABULARY - len(tokens))]
    return {
        "general.architecture": text("lfm2"),
        "general.name": text(f"LFM2 {shape} shape, random weights"),
        "general.file_type": u32(QUANTIZATIONS[quantization][1]),
        "lfm2.block_count": u32(layers),
        "lfm2.context_length": u32(CONTEXT),
        "lfm2.embedding_length": u32(width),
        "lfm2.feed_forward_length": u32(feed_forward),
        "lfm2.attention.head_count": u32(heads),
        "lfm2.attention.head_count_kv": integers([KEY_HEADS if layer in attends else 0 for layer in range(layers)]),
        "lfm2.attention.layer_norm_rms_epsilon": f32(1e-5),
        "lfm2.rope.freq_base": f32(1e6),
        "lfm2.vocab_size": u32(VOCABULARY),
        "lfm2.shortconv.l_cache": u32(CONVOLUTION),
        "tokenizer.ggml.model": text("gpt2"),
        "tokenizer.ggml.pre": text("lfm2"),
        "tokenizer.ggml.tokens": texts(tokens),
        "tokenizer.ggml.token_type": integers([CONTROL if token in SPECIAL else NORMAL for token in tokens]),
        "tokenizer.ggml.merges": texts([]),
        "tokenizer.ggml.bos_token_id": u32(SPECIAL.index("<|startoftext|>")),
        "tokenizer.ggml.eos_token_id": u32(SPECIAL.index("<|im_end|>")),
        "tokenizer.ggml.padding_token_id": u32(SPECIAL.index("<|pad|>")),
        "tokenizer.ggml.add_bos_token": boolean(False),
        "tokenizer.chat_template": text(TEMPLATE),
    }


def tile(source, quantization, inputs):
    """Blocks of random weights whose spread is that of a trained matrix with so many inputs."""
    _, _, length, spread = QUANTIZATIONS[quantization]
    blocks = bytearray(source.randbytes(TILE_BLOCKS * (2 + length)))
    low, high = struct.pack("<e", inputs ** -0.5 / spread)
    blocks[0::2 + length] = bytes([low]) * TILE_BLOCKS
    blocks[1::2 + length] = bytes([high]) * TILE_BLOCKS
    return bytes(blocks)


def write(file, shape, quantization):
    kind, _, length, _ = QUANTIZATIONS[quantization]
    listed = list(tensors(shape))
    counted = sum(weights_of(dimensions) for _, dimensions, _ in listed)
    assert counted == SHAPES[shape][-1], f"{counted} weights are not LFM2-{shape}'s {SHAPES[shape][-1]}"

    def size(dimensions, quantized):
        return weights_of(dimensions) // BLOCK * (2 + length) if quantized else 4 * weights_of(dimensions)

    file.write(gguf.head(facts(shape, quantization),
                         [(name, dimensions, kind if quantized else gguf.FLOAT32, size(dimensions, quantized))
                          for name, dimensions, quantized in listed]))
    source, tiles = random.Random(20260101), {}
    for _, dimensions, quantized in listed:
        left = size(dimensions, quantized)
        inputs = dimensions[0]
        if quantized:
            if inputs not in tiles:
                tiles[inputs] = tile(source, quantization, inputs)
            piece = tiles[inputs]
        else:
            value = CONVOLUTION ** -0.5 if inputs == CONVOLUTION else 1.0
            piece = struct.pack("<f", value) * 1024
        padding = gguf.padding(left)
        while left > 0:
            left -= file.write(piece[:left])
        file.write(padding)


def main():
    if len(sys.argv) != 4 or sys.argv[1] not in SHAPES or sys.argv[2] not in QUANTIZATIONS:
        sys.exit(__doc__)
    path = pathlib.Path(sys.argv[3])
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        write(file, sys.argv[1], sys.argv[2])
    part.rename(path)


if __name__ == "__main__":
    main()
