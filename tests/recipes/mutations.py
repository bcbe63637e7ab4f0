"""Mutations of a `.keras` file: of its bytes, its configuration, its names and its weights, each from a number."""

import io
import json
import random
import zipfile

ELSEWHERE = "keras_kd_mutated"
_VALUES = [
    *(None, True, -1, 0, 1, 2, 3.5, 10**4, 10**9, 10**18, 1e308, float("nan"), "", "x", "relu", "float64", "string"),
    *([], {}, [[]], [None], [1, 2, 3], {"class_name": "Dense"}, "../../" + ELSEWHERE, "\x1b[31m", "é" * 5000),
]
_CLASSES = [
    "Lambda",
    "TFSMLayer",
    "Nothing",
    "Model",
    "LSTM",
    "Embedding",
    "Dropout",
    "Flatten",
    "system",
    "__import__",
    "",
]
_MODULES = ["os", "keras.layers", "keras.utils", "builtins", "subprocess", "keras", None, 5, "keras_kd", ""]
_LAMBDA = {
    "module": "keras.layers",
    "class_name": "Lambda",
    "config": {
        "name": "code",
        "function": {"class_name": "__lambda__", "config": {"code": "4wEAAAA=", "defaults": None}},
    },
}


def mutated(content, number):
    """The content of a `.keras` file after the mutation of this number, and the mutation's kind."""
    draws = random.Random(number)
    kind = ("bytes", "config", "config", "names", "metadata", "weights")[number % 6]
    if kind == "bytes":
        return _bytes(content, draws), kind
    members = _members(content)
    {"config": _config, "names": _names, "metadata": _metadata, "weights": _weights}[kind](members, draws)
    return _packed(members), kind


def _members(content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return [(name, archive.read(name)) for name in archive.namelist()]


def _packed(members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content)
    return file.getvalue()


def _bytes(content, draws):
    place = draws.randrange(len(content))
    size = draws.choice([1, 1, 4, 64, 1024])
    return draws.choice(
        [
            lambda: content[:place],
            lambda: content[place:],
            lambda: content[:place] + draws.randbytes(size) + content[place + size :],
            lambda: content[:place] + bytes(size) + content[place + size :],
            lambda: content[:place] + content[place + size :],
            lambda: content[:place] + draws.randbytes(size) + content[place:],
            lambda: content + draws.randbytes(size),
            lambda: content[:place] + bytes([content[place] ^ 1 << draws.randrange(8)]) + content[place + 1 :],
        ]
    )()


def _replace(members, name, content):
    members[:] = [(one, content if one == name else old) for one, old in members]


def _of(members, name):
    return next(content for one, content in members if one == name)


def _json(members, name, change):
    config = json.loads(_of(members, name))
    change(config)
    _replace(members, name, json.dumps(config).encode())


def _places(value):
    """All containers in a JSON value, with each of their keys."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield value, key
        yield from _places(inner)


def _config(members, draws):
    def change(config):
        for _ in range(draws.choice([1, 1, 1, 2, 5])):
            holder, key = draws.choice(list(_places(config)))
            if key == "class_name":
                holder[key] = draws.choice(_CLASSES)
            elif key == "module":
                holder[key] = draws.choice(_MODULES)
            elif isinstance(holder, list) and draws.random() < 0.4:
                holder.insert(key, draws.choice([holder[key], _LAMBDA]))
            elif draws.random() < 0.3:
                del holder[key]
            else:
                holder[key] = draws.choice(_VALUES)

    if draws.random() < 0.1:
        texts = [b"", b"null", b"[]", b"{", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 5000, b"7"]
        return _replace(members, "config.json", draws.choice(texts))
    return _json(members, "config.json", change)


def _names(members, draws):
    place = draws.randrange(len(members))
    name, content = members[place]
    names = [
        f"../{ELSEWHERE}",
        f"/tmp/{ELSEWHERE}",
        f"assets/../../{ELSEWHERE}",
        "",
        "config.json/x",
        name.upper(),
        "é",
        f"..\\{name}",
    ]
    draws.choice(
        [
            lambda: members.__setitem__(place, (draws.choice(names), content)),
            lambda: members.append((draws.choice(names), b"x")),
            lambda: members.pop(place),
            lambda: members.append((f"assets/../../{ELSEWHERE}", b"x")),
        ]
    )()


def _metadata(members, draws):
    texts = [b"", b"{}", b"[", b'{"keras_version": "99.0"}', b'{"keras_version": []}', draws.randbytes(50)]
    _replace(members, "metadata.json", draws.choice(texts))


def _weights(members, draws):
    name = "model.weights.h5"
    content = bytearray(_of(members, name))
    for _ in range(draws.choice([1, 1, 3, 30])):
        content[draws.randrange(len(content) if draws.random() < 0.5 else 2048)] = draws.randrange(256)
    cut = draws.choice([None, None, None, 0, 7, draws.randrange(len(content))])
    _replace(members, name, bytes(content[:cut]))
