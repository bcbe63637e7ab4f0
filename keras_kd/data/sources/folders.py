"""Images in one folder per class: `PATH/cat/1.png`, or `PATH/train/cat/1.png` and so on.

Images are decoded by Pillow rather than `tf.io`, so that errors name the unreadable file, and palettes, EXIF rotation,
GIF and WebP are supported without extra code.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from keras_kd.data.checks import check_image_size
from keras_kd.data.sources.records import Records, Scaling
from keras_kd.data.splits import Opened
from keras_kd.data.stratify import complete_splits
from keras_kd.errors import ConfigurationError, explain
from keras_kd.files import digest_of_file

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")
_PART_FOLDERS = {"train": ("train",), "validation": ("validation", "val"), "test": ("test",)}
_ORDER_SEED = 0
_SMALL_BYTES = 4096  # about as expensive to read as to open
_UNCOMPRESSED = (".bmp",)
_GREYSCALE_MODES = ("1", "L", "LA")
_DEEP_MODES = ("I", "I;16", "I;16B", "I;16L", "I;16N", "F")
_EXIF_ORIENTATION = 0x0112
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error)  # raised by Pillow


def open_folder(
    path: Path,
    fractions: Mapping[str, float | None],
    image_size: Any,
    value_range: tuple[float, float],
    seed: int,
) -> Opened:
    """Opens images by class; reads the listing and the structure of each file to detect damaged files early.

    If `PATH/train` exists, the folders `train`, `validation` (or `val`) and `test` are the splits; otherwise the
    subfolders are the classes. Class names are sorted. Files without an image suffix, and names that start with a dot,
    are ignored. All images are grayscale if the first one is, else RGB; they are resized bilinearly with antialiasing
    and rounded to uint8. Their order is shuffled with a fixed seed.
    """
    size = check_image_size(image_size)
    folders = _part_folders(path)
    class_names = _class_names(folders["train"])
    files = {part: _files(folder, class_names) for part, folder in folders.items()}
    found = [file for listed, _ in files.values() for file in listed]
    shape = _example_shape(found, size)
    parts = {part: FolderRecords(*listed, shape=shape) for part, listed in files.items()}
    splits = complete_splits(parts, fractions, class_names, Scaling.to_range(255, value_range), seed)
    listing = sorted((file.relative_to(path).as_posix(), _content(file)) for file in found)
    return Opened(class_names, splits, tuple(listing))


def _content(file: Path) -> int | str:
    """What tells the content of a file from another: its size, unless images that differ may have the same."""
    size = file.stat().st_size
    return digest_of_file(file) if size <= _SMALL_BYTES or file.suffix.lower() in _UNCOMPRESSED else size


class FolderRecords(Records):
    """Image files, decoded on reading: uint8 `[height, width, channels]`."""

    dtype = np.dtype(np.uint8)

    def __init__(self, files: Sequence[Path], labels: np.ndarray, *, shape: tuple[int, int, int]):
        self._files = list(files)
        self._labels = labels
        self.num_examples = len(self._files)
        self.shape = shape

    @property
    def names(self) -> np.ndarray:
        """`class/file`, without the suffix, by which the sources of a pair may differ."""
        return np.array([f"{file.parent.name}/{file.stem}" for file in self._files])

    def read_labels(self) -> np.ndarray:
        return self._labels

    def select(self, rows: np.ndarray) -> FolderRecords:
        return FolderRecords([self._files[row] for row in rows], self._labels[rows], shape=self.shape)

    def read(self) -> np.ndarray:
        stored = np.empty((self.num_examples, *self.shape), self.dtype)
        with ThreadPoolExecutor() as pool:
            for row, image in enumerate(pool.map(self._decode, self._files)):
                stored[row] = image
        return stored

    def stream(self) -> Any:
        import tensorflow as tf

        def decode(file, label):
            image = tf.numpy_function(lambda name: self._decode(Path(name.decode())), [file], tf.uint8)
            return tf.ensure_shape(image, self.shape), label

        names = [str(file) for file in self._files]
        return tf.data.Dataset.from_tensor_slices((names, self._labels)).map(decode, tf.data.AUTOTUNE)

    def _decode(self, file: Path) -> np.ndarray:
        return decode_image(file, self.shape)


def decode_image(file: Path, shape: tuple[int, int, int]) -> np.ndarray:
    """One image as uint8 `[height, width, channels]` of the given shape.

    Raises:
        ConfigurationError: the file is not a readable image, or is a color image while `shape` has one channel.
    """
    from PIL import Image, ImageOps

    height, width, channels = shape
    with _open(file) as image:
        _check_mode(file, image.mode, channels)
        try:
            image = ImageOps.exif_transpose(image)
            image = image.convert("RGBA") if image.mode in ("P", "PA") else image
            image = image.convert("L" if channels == 1 else "RGB")
        except _BROKEN as error:
            raise _unreadable(file, error) from error
        if image.size != (width, height):
            image = image.resize((width, height), Image.Resampling.BILINEAR)
        return np.asarray(image, np.uint8).reshape(shape)


def _open(file: Path) -> Any:
    from PIL import Image

    if not file.is_file():  # opening a pipe would block until a writer appears
        raise _unreadable(file, "not a regular file")
    try:
        return Image.open(file)
    except (*_BROKEN, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _unreadable(file, error) from error


def _unreadable(file: Path, error: Exception | str) -> ConfigurationError:
    return ConfigurationError(
        explain(
            f"The image file cannot be read: {error}.",
            received=str(file),
            expected=f"a complete image ({', '.join(SUFFIXES)})",
            fix="Repair or remove the file.",
        )
    )


def _check_mode(file: Path, mode: str, channels: int) -> None:
    deep, lossy = mode in _DEEP_MODES, channels == 1 and mode not in _GREYSCALE_MODES
    if deep or lossy:
        raise ConfigurationError(
            explain(
                "The image has more than 8 bits per channel."
                if deep
                else "A color image was found among grayscale ones.",
                received=f"{file}, Pillow mode {mode!r}",
                expected="8 bits per channel" if deep else "grayscale, like the first image",
                fix="Convert all images to the same mode.",
            )
        )


def _part_folders(path: Path) -> dict[str, Path]:
    if not path.is_dir():
        raise ConfigurationError(
            explain(
                "Folder not found.",
                received=str(path),
                expected="a folder with one subfolder of images per class",
                fix="Relative paths are resolved from the working directory.",
            )
        )
    if not (path / "train").is_dir():
        return {"train": path}
    found = {part: [path / n for n in names if (path / n).is_dir()] for part, names in _PART_FOLDERS.items()}
    if len(found["validation"]) > 1:
        raise ConfigurationError(
            explain(
                f"{path} has two validation folders.",
                received="'validation' and 'val'",
                expected="one of them",
            )
        )
    return {part: folders[0] for part, folders in found.items() if folders}


def _class_names(folder: Path) -> tuple[str, ...]:
    names = tuple(sorted(f.name for f in folder.iterdir() if f.is_dir() and not f.name.startswith(".")))
    if len(names) < 2:
        raise ConfigurationError(
            explain(
                f"{folder} has fewer than two class folders.",
                received=f"subfolders: {', '.join(names) or '(none)'}",
                expected="at least two, one per class, with its images inside",
            )
        )
    return names


def _files(folder: Path, class_names: Sequence[str]) -> tuple[list[Path], np.ndarray]:
    """The files of one part and their labels, shuffled with a fixed seed."""
    unknown = set(_class_names(folder)) - set(class_names)
    if unknown:
        raise ConfigurationError(
            explain(
                f"{folder} has classes without training images.",
                received=", ".join(sorted(unknown)),
                expected=f"some of {', '.join(class_names)}",
            )
        )
    by_class = [_images(folder / name) if (folder / name).is_dir() else [] for name in class_names]
    files = [file for images in by_class for file in images]
    labels = np.repeat(np.arange(len(by_class)), [len(images) for images in by_class])
    order = np.random.RandomState(_ORDER_SEED).permutation(len(files))
    return [files[row] for row in order], labels[order].astype(np.int64)


def _images(folder: Path) -> list[Path]:
    images = sorted(f for f in folder.iterdir() if f.suffix.lower() in SUFFIXES and not f.name.startswith("."))
    if not images:
        raise ConfigurationError(
            explain(
                "A class folder contains no images.",
                received=str(folder),
                expected=f"at least one file with the suffix {', '.join(SUFFIXES)}",
                fix="Add images, or remove the folder.",
            )
        )
    return images


def _example_shape(files: Sequence[Path], size: tuple[int, int] | None) -> tuple[int, int, int]:
    """The shape of all images, from their headers; inspects every file to detect damaged ones early."""
    with ThreadPoolExecutor() as pool:
        found = dict(zip(files, pool.map(_inspected, files), strict=True))
    first = min(files)
    first_size, first_mode = found[first]
    channels = 1 if first_mode in _GREYSCALE_MODES else 3
    for file, (other, mode) in found.items():
        _check_mode(file, mode, channels)
        if size is None and other != first_size:
            raise ConfigurationError(
                explain(
                    "The images have different sizes.",
                    received=f"{first}: {_words(first_size)}, {file}: {_words(other)}",
                    expected="one size for all, or image_size=(height, width) to resize them to",
                )
            )
    return (*(size or first_size), channels)


def _words(size: tuple[int, int]) -> str:
    return f"height {size[0]}, width {size[1]}"


def _inspected(file: Path) -> tuple[tuple[int, int], str]:
    """(height, width) after EXIF rotation, and Pillow's mode; the pixels are not decoded.

    Raises:
        ConfigurationError: the file is not a complete image, or has more pixels than Pillow considers safe.
    """
    from PIL import Image

    with _open(file) as image:
        width, height = image.size
        if width * height > (Image.MAX_IMAGE_PIXELS or math.inf):
            raise _unreadable(file, f"{width} x {height} pixels, more than {Image.MAX_IMAGE_PIXELS:,}")
        try:
            turned = image.getexif().get(_EXIF_ORIENTATION, 1) >= 5
            _check_end(file, image.format)
        except _BROKEN as error:
            raise _unreadable(file, error) from error
        return ((width, height) if turned else (height, width)), image.mode


def _check_end(file: Path, kind: str) -> None:
    """Raises one of `_BROKEN` if a file is truncated or, if its format has checksums, corrupted.

    A PNG has a checksum per chunk. For other formats, the end is checked, and files with an unusual end are decoded.
    """
    if kind == "PNG":
        with _open(file) as image:
            image.verify()
    elif not _ends_as_usual(file, kind):
        with _open(file) as image:
            image.load()


def _ends_as_usual(file: Path, kind: str) -> bool:
    with file.open("rb") as stream:
        start, length = stream.read(12), file.stat().st_size
        stream.seek(max(0, length - 2))
        end = stream.read()
    sizes = {"BMP": int.from_bytes(start[2:6], "little"), "WEBP": int.from_bytes(start[4:8], "little") + 8}
    return length == sizes[kind] if kind in sizes else {"JPEG": b"\xff\xd9", "GIF": b"\0;"}.get(kind) == end
