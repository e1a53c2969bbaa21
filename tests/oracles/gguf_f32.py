"""gguf_f32.py - the keys and F32 tensors of a GGUF file, read by its specification; standard library only.

https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, version 3. For small files: tensors come as array.array, with
their dims as they stand in the file (dims[0] varies fastest)."""
import array
import struct

SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY, F32 = 8, 9, 0


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def scalar(self, letter):
        (value,) = struct.unpack_from("<" + letter, self.data, self.at)
        self.at += struct.calcsize("<" + letter)
        return value

    def string(self):
        n = self.scalar("Q")
        self.at += n
        return self.data[self.at - n:self.at].decode("utf-8", "surrogateescape")

    def value(self, kind):
        if kind == STRING:
            return self.string()
        if kind == ARRAY:
            element, n = self.scalar("I"), self.scalar("Q")
            return [self.value(element) for _ in range(n)]
        return self.scalar(SCALARS[kind])


def read(path):
    """{key: value}, {tensor: (dims, array of floats)}"""
    with open(path, "rb") as file:
        data = file.read()
    reader = Reader(data)
    magic, version = reader.scalar("I"), reader.scalar("I")
    if magic != 0x46554747 or version != 3:
        raise ValueError(f"{path}: not a GGUF file of version 3")
    n_tensors, n_keys = reader.scalar("Q"), reader.scalar("Q")
    keys = {}
    for _ in range(n_keys):
        name = reader.string()
        keys[name] = reader.value(reader.scalar("I"))
    entries = []
    for _ in range(n_tensors):
        name = reader.string()
        dims = [reader.scalar("Q") for _ in range(reader.scalar("I"))]
        kind, offset = reader.scalar("I"), reader.scalar("Q")
        if kind != F32:
            raise ValueError(f"{path}: {name} is not F32")
        entries.append((name, dims, offset))
    alignment = keys.get("general.alignment", 32)
    begin = (reader.at + alignment - 1) // alignment * alignment
    tensors = {}
    for name, dims, offset in entries:
        n = 1
        for d in dims:
            n *= d
        values = array.array("f")
        values.frombytes(data[begin + offset:begin + offset + 4 * n])
        tensors[name] = (dims, values)
    return keys, tensors
