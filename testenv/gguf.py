"""How a model file of llama.cpp is written: GGUF version 3, with nothing but Python."""

import struct

NORMAL, CONTROL = 1, 3
ALIGNMENT = 32
FLOAT32 = 0


def byte_letters():
    """GPT-2's letter for each byte: printable bytes are themselves, the others follow from 256 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {byte: chr(byte) for byte in printable}
    for byte in range(256):
        letters.setdefault(byte, chr(256 + len([b for b in letters if ord(letters[b]) > 255])))
    return letters


def string(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


# The types of GGUF's keys, each with its number and how a value is written.
def u32(value):
    return struct.pack("<II", 4, value)


def f32(value):
    return struct.pack("<If", 6, value)


def boolean(value):
    return struct.pack("<I?", 7, value)


def text(value):
    return struct.pack("<I", 8) + string(value)


def texts(values):
    return struct.pack("<IIQ", 9, 8, len(values)) + b"".join(map(string, values))


def integers(values):
    return struct.pack(f"<IIQ{len(values)}i", 9, 5, len(values), *values)


def padding(length):
    return b"\0" * (-length % ALIGNMENT)


def head(facts, tensors):
    """All that stands before the weights. `facts` are values by key, `tensors` name, shape, type and length in bytes, in order."""
    start = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(facts))
    start += b"".join(string(name) + value for name, value in facts.items())
    at = 0
    for name, shape, kind, length in tensors:
        start += string(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape) + struct.pack("<IQ", kind, at)
        at += length + len(padding(length))
    return start + padding(len(start))
