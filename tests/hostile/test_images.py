"""Image folders in which something is not an image or is in the wrong place."""

import os
import socket
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import keras_kd as kd
from keras_kd.errors import KerasKDError


def picture(path, size=(8, 8), mode="L"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((np.arange(size[0] * size[1]) % 251).astype("uint8").reshape(size)).convert(mode).save(path)
    return path


def whole(folder):
    """Writes two classes of twelve images each."""
    for name in ("cats", "dogs"):
        for number in range(12):
            picture(folder / name / f"{number}.png")
    return folder


def truncated(folder):
    file = picture(folder / "cats" / "half.png", (64, 64))
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def damaged(folder):
    file = picture(folder / "cats" / "damaged.png", (64, 64))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(bytes(content))


def header_alone(folder):
    file = picture(folder / "cats" / "header.png")
    file.write_bytes(file.read_bytes()[:33])


def enormous(folder):
    """Writes a PNG header for 100,000 x 100,000 pixels with almost no pixel data."""
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    data = zlib.compress(bytes(1000))
    rest = struct.pack(">I", len(data)) + b"IDAT" + data + struct.pack(">I", zlib.crc32(b"IDAT" + data))
    end = struct.pack(">I", 0) + b"IEND" + struct.pack(">I", zlib.crc32(b"IEND"))
    (folder / "cats" / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + rest + end)


def listening(folder):
    server = socket.socket(socket.AF_UNIX)
    here = Path.cwd()
    os.chdir(folder / "cats")  # socket paths must be short
    server.bind("socket.png")
    os.chdir(here)
    server.close()


def renamed_class(name):
    return lambda folder: (folder / "cats").rename(folder / name)


# What is done to an intact folder, and the expected words of the message.
FOLDERS = {
    "an empty file": (lambda f: (f / "cats" / "empty.png").write_bytes(b""), "empty.png"),
    "text as a picture": (lambda f: (f / "cats" / "text.png").write_text("no picture"), "text.png"),
    "a truncated picture": (truncated, "half.png"),
    "a damaged picture": (damaged, "damaged.png"),
    "a header without pixels": (header_alone, "header.png"),
    "a header of ten billion pixels": (enormous, "bomb.png"),
    "a FIFO": (lambda f: os.mkfifo(f / "cats" / "pipe.png"), "pipe.png"),
    "a socket": (listening, "socket.png"),
    "a link to nothing": (lambda f: (f / "cats" / "link.png").symlink_to(f / "nothing.png"), "link.png"),
    "a link to itself": (lambda f: (f / "cats" / "loop.png").symlink_to(f / "cats" / "loop.png"), "loop.png"),
    "a link to a device": (lambda f: (f / "cats" / "zero.png").symlink_to("/dev/zero"), "zero.png"),
    "another size": (lambda f: picture(f / "cats" / "large.png", (9, 8)), "image_size"),
    "a class without pictures": (lambda f: (f / "birds").mkdir(), "birds"),
    "a newline in a class": (renamed_class("ca\nts"), "ca"),
    "a carriage return in a class": (renamed_class("ca\rts"), "ca"),
    "a line separator in a class": (renamed_class("ca\u2028ts"), "ca"),
    "a train folder without classes": (lambda f: (f / "cats").rename(f / "train"), ""),
    "one class": (lambda f: [file.unlink() for file in (f / "dogs").iterdir()] and (f / "dogs").rmdir(), "class"),
}


@pytest.mark.parametrize("size", [None, (8, 8)], ids=["as stored", "resized"])
@pytest.mark.parametrize(("damage", "word"), list(FOLDERS.values()), ids=list(FOLDERS))
def test_a_damaged_folder_is_rejected_when_opened(damage, word, size, refused, tmp_path_factory):
    folder = whole(tmp_path_factory.mktemp("images"))
    damage(folder)
    if word == "image_size" and size is not None:
        assert kd.data.open_source(f"folder:{folder}", image_size=size).input_shape == (8, 8, 1)
        return
    refused(lambda: kd.data.open_source(f"folder:{folder}", image_size=size), KerasKDError, [word])


PLACES = {
    "nothing": lambda f: f / "nothing",
    "a file": lambda f: picture(f / "file.png"),
    "an empty folder": lambda f: f,
    "a folder of files": lambda f: picture(f / "one.png").parent,
    "a device": lambda f: "/dev/null",
    "a zero byte": lambda f: f"{f}/a\0b",
    "a very long name": lambda f: f / ("a" * 5000),
}


@pytest.mark.parametrize("place", list(PLACES.values()), ids=list(PLACES))
def test_a_path_without_an_image_folder_is_rejected(place, refused, tmp_path_factory):
    place = place(tmp_path_factory.mktemp("place"))
    refused(lambda: kd.data.open_source(f"folder:{place}"), KerasKDError, [])
