"""First components of MiniLM vectors, evaluated in double precision with numpy: the reference of `tests/it/embedder.rs`.

Usage: reference.py FOLDER TEXT...   (needs numpy and tokenizers)
"""

import json
import pathlib
import struct
import sys
from math import erf

import numpy as np
from tokenizers import Tokenizer

folder = pathlib.Path(sys.argv[1])
data = (folder / "model.safetensors").read_bytes()
start = 8 + struct.unpack("<Q", data[:8])[0]
config = json.loads((folder / "config.json").read_text())
tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
tokenizer.no_padding()
tokenizer.enable_truncation(256)
weights = {
    name: np.frombuffer(data, "<f4", int(np.prod(t["shape"])), start + t["data_offsets"][0])
    .reshape(t["shape"])
    .astype(np.float64)
    for name, t in json.loads(data[8:start]).items()
    if t.get("dtype") == "F32"
}


def linear(x, name):
    return x @ weights[name + ".weight"].T + weights[name + ".bias"]


def norm(x, name):
    spread = np.sqrt(x.var(-1, keepdims=True) + config["layer_norm_eps"])
    return (x - x.mean(-1, keepdims=True)) / spread * weights[name + ".weight"] + weights[name + ".bias"]


def attend(x, name):
    heads, size = config["num_attention_heads"], config["hidden_size"] // config["num_attention_heads"]
    query, key, value = (
        linear(x, name + part).reshape(len(x), heads, size).transpose(1, 0, 2) for part in ("query", "key", "value")
    )
    scores = np.exp(query @ key.transpose(0, 2, 1) / np.sqrt(size))
    mixed = scores / scores.sum(-1, keepdims=True) @ value
    return mixed.transpose(1, 0, 2).reshape(len(x), -1)


def embed(text):
    ids = tokenizer.encode(text).ids
    names = [f"embeddings.{part}_embeddings.weight" for part in ("word", "position", "token_type")]
    x = weights[names[0]][ids] + weights[names[1]][: len(ids)] + weights[names[2]][0]
    x = norm(x, "embeddings.LayerNorm")
    for index in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{index}."
        mixed = linear(attend(x, layer + "attention.self."), layer + "attention.output.dense")
        x = norm(mixed + x, layer + "attention.output.LayerNorm")
        wide = linear(x, layer + "intermediate.dense")
        wide = wide * 0.5 * (1 + np.vectorize(erf)(wide / np.sqrt(2)))
        x = norm(linear(wide, layer + "output.dense") + x, layer + "output.LayerNorm")
    mean = x.mean(0)
    return mean / np.linalg.norm(mean)


for text in sys.argv[2:]:
    print(text, [round(float(value), 6) for value in embed(text)[:6]])
