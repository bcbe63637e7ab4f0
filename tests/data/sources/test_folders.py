import os
import socket
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_kd.data import evaluation_batches, open_source
from keras_kd.data.sources import records
from keras_kd.data.sources.folders import decode_image
from keras_kd.errors import ConfigurationError


def write_images(folder, images, labels):
    for row, (image, label) in enumerate(zip(images, labels, strict=True)):
        file = folder / f"digit_{label}" / f"{row:04}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(file)


@pytest.fixture
def few_digits(digit_images):
    images, labels = digit_images
    return images[:100], labels[:100]


@pytest.fixture
def folder(tmp_path, few_digits):
    write_images(tmp_path / "digits", *few_digits)
    return tmp_path / "digits"


def images_by_bytes(*parts):
    return sorted(image.tobytes() for part in parts for image in part)


def test_one_level_is_cut_and_stratified(folder, few_digits):
    source = open_source(f"folder:{folder}", validation=0.2, test=0.2)
    assert source.class_names == tuple(f"digit_{i}" for i in range(10))
    assert source.input_shape == (8, 8, 1)
    parts = [split.arrays() for split in (source.train, source.validation, source.test)]
    assert [len(x) for x, _ in parts] == [60, 20, 20]
    assert all(set(y) == set(range(10)) for _, y in parts)
    stored = few_digits[0].astype(np.float32) / np.float32(255)
    assert images_by_bytes(*(x for x, _ in parts)) == images_by_bytes(stored)


def test_labels_belong_to_their_images(folder, few_digits):
    label_of = {image.tobytes(): label for image, label in zip(*few_digits, strict=True)}
    train = open_source(f"folder:{folder}").train
    assert [label_of[image.tobytes()] for image in train.records.stored] == train.labels().tolist()


def test_streamed_and_read_images_are_the_same(folder):
    train = open_source(f"folder:{folder}").train
    streamed = list(train.dataset().as_numpy_iterator())
    np.testing.assert_array_equal(np.stack([x for x, _ in streamed]), train.arrays()[0])
    np.testing.assert_array_equal([y for _, y in streamed], train.labels())


def test_the_order_mixes_the_classes(folder):
    labels = open_source(f"folder:{folder}").train.labels()
    assert len(set(labels[:20])) > 5
    np.testing.assert_array_equal(open_source(f"folder:{folder}").train.labels(), labels)


@pytest.mark.parametrize("name", ["validation", "val"])
def test_folders_for_the_splits(tmp_path, few_digits, name):
    images, labels = few_digits
    for part, rows in (("train", slice(60)), (name, slice(60, 80)), ("test", slice(80, 100))):
        write_images(tmp_path / part, images[rows], labels[rows])
    source = open_source(f"folder:{tmp_path}")
    sizes = [split.num_examples for split in (source.train, source.validation, source.test)]
    assert sizes == [60, 20, 20]
    expected = images[60:80].astype(np.float32) / np.float32(255)
    assert images_by_bytes(source.validation.arrays()[0]) == images_by_bytes(expected)


def test_a_missing_split_is_cut_from_train(tmp_path, few_digits):
    images, labels = few_digits
    write_images(tmp_path / "train", images[:80], labels[:80])
    write_images(tmp_path / "test", images[80:], labels[80:])
    source = open_source(f"folder:{tmp_path}", validation=0.25)
    assert (source.train.num_examples, source.validation.num_examples) == (60, 20)


def test_other_files_are_ignored(folder):
    (folder / "readme.txt").write_text("about")
    (folder / "digit_0" / "notes.txt").write_text("about")
    (folder / ".cache").mkdir()
    assert open_source(f"folder:{folder}").num_classes == 10


def test_the_fingerprint_follows_the_files(folder):
    first = open_source(f"folder:{folder}").fingerprint
    assert open_source(f"folder:{folder}").fingerprint == first
    assert open_source(f"folder:{folder}", image_size=9).fingerprint != first
    file = next((folder / "digit_2").iterdir())
    Image.new("L", (8, 8), 7).save(file)
    assert open_source(f"folder:{folder}").fingerprint != first
    second = open_source(f"folder:{folder}").fingerprint
    next((folder / "digit_3").iterdir()).unlink()
    assert open_source(f"folder:{folder}").fingerprint not in (first, second)


@pytest.mark.parametrize(("suffix", "size"), [("bmp", 80), ("png", 8)])
def test_the_fingerprint_follows_images_whose_files_have_the_same_size(tmp_path, suffix, size):
    for name in "ab":
        (tmp_path / name).mkdir()
        for number in range(10):
            Image.new("L", (size, size), 10 * number).save(tmp_path / name / f"{number}.{suffix}")
    first = open_source(f"folder:{tmp_path}").fingerprint
    file = tmp_path / "a" / f"3.{suffix}"
    num_bytes = file.stat().st_size
    Image.new("L", (size, size), 200).save(file)
    assert file.stat().st_size == num_bytes
    assert open_source(f"folder:{tmp_path}").fingerprint != first


def test_images_are_resized(folder):
    source = open_source(f"folder:{folder}", image_size=(6, 4))
    assert source.input_shape == (6, 4, 1)
    assert source.train.arrays()[0].shape == (80, 6, 4, 1)


def test_other_sizes_need_an_image_size(folder):
    Image.new("L", (9, 8)).save(folder / "digit_4" / "wide.png")
    with pytest.raises(ConfigurationError, match=r"wide\.png: height 8, width 9.*image_size"):
        open_source(f"folder:{folder}")
    assert open_source(f"folder:{folder}", image_size=8).input_shape == (8, 8, 1)


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "1", "LA", "CMYK"])
@pytest.mark.parametrize("suffix", ["png", "bmp", "gif", "jpg", "webp"])
def test_formats_and_modes_become_rgb(tmp_path, mode, suffix):
    image = Image.new("RGB", (5, 4), (255, 255, 255)).convert(mode)
    try:
        image.save(tmp_path / f"image.{suffix}")
    except (OSError, ValueError):
        pytest.skip(f"Pillow writes no {mode} {suffix}")
    decoded = decode_image(tmp_path / f"image.{suffix}", (4, 5, 3))
    assert decoded.dtype == np.uint8 and decoded.shape == (4, 5, 3) and decoded.min() >= 250


def test_a_palette_may_have_transparent_colors(tmp_path):
    """Pillow warns when such an image is converted directly to RGB, and warnings are errors here."""
    image = Image.new("P", (5, 4))
    image.putpalette([255, 255, 255, 9, 9, 9])
    image.save(tmp_path / "image.png", transparency=bytes([0, 128]))
    assert decode_image(tmp_path / "image.png", (4, 5, 3)).min() == 255


def test_images_are_turned_upright(tmp_path):
    pixels = np.zeros((2, 3), np.uint8)
    pixels[0, 0] = 255
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for row in range(10):
            exif = Image.Exif()
            exif[0x0112] = 6
            Image.fromarray(pixels).save(tmp_path / name / f"{row}.png", exif=exif)
    source = open_source(f"folder:{tmp_path}")
    assert source.input_shape == (3, 2, 1)
    np.testing.assert_array_equal(source.test.arrays()[0][0, ..., 0], np.rot90(pixels, -1) / 255)


def cut(content):
    return content[: len(content) * 2 // 3]


def changed(content):
    """Flips one bit in the pixels of a PNG, so that its checksum no longer matches."""
    place = content.index(b"IDAT") + 8
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


@pytest.mark.parametrize("image_size", [None, 8])
@pytest.mark.parametrize("damage", [lambda _: b"no image", lambda _: b"", lambda c: c[:-14], cut, changed])
def test_a_damaged_png_is_named_when_the_folder_is_opened(folder, damage, image_size):
    bad = folder / "digit_5" / "bad.png"
    bad.write_bytes(damage(next((folder / "digit_5").iterdir()).read_bytes()))
    with pytest.raises(ConfigurationError, match=r"cannot be read.*bad\.png"):
        open_source(f"folder:{folder}", image_size=image_size)


@pytest.mark.parametrize("image_size", [None, 8])
@pytest.mark.parametrize("suffix", ["jpg", "gif", "webp", "bmp"])
def test_a_cut_off_image_is_named_when_the_folder_is_opened(folder, suffix, image_size):
    bad = folder / "digit_5" / f"bad.{suffix}"
    noise = np.random.default_rng(0).integers(0, 255, (8, 8), np.uint8)
    Image.fromarray(noise).save(bad)
    whole = bad.read_bytes()
    if suffix in ("jpg", "bmp"):  # the other formats store color images
        assert open_source(f"folder:{folder}", image_size=image_size).num_classes == 10
    bad.write_bytes(whole[:-20])
    with pytest.raises(ConfigurationError, match=rf"cannot be read.*bad\.{suffix}"):
        open_source(f"folder:{folder}", image_size=image_size)


def test_bytes_after_a_complete_image_are_ignored(folder):
    image = folder / "digit_5" / "more.jpg"
    Image.new("L", (8, 8), 9).save(image)
    image.write_bytes(image.read_bytes() + b"\n")
    assert open_source(f"folder:{folder}").num_classes == 10


def make_pipe(file):
    os.mkfifo(file)


def make_loop(file):
    file.symlink_to(file.name)


def make_device(file):
    file.symlink_to("/dev/zero")


def make_socket(file):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(file))


@pytest.mark.parametrize("make", [make_pipe, make_loop, make_device, make_socket, lambda file: file.mkdir()])
@pytest.mark.parametrize("image_size", [None, 8])
def test_what_is_not_a_file_is_named_and_not_opened(folder, make, image_size, monkeypatch):
    monkeypatch.chdir(folder / "digit_5")  # socket paths must be short
    make(Path("0.png"))
    with pytest.raises(ConfigurationError, match=r"not a regular file.*digit_5/0\.png"):
        open_source(f"folder:{folder}", image_size=image_size)


def huge_png(width, height):
    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(10_000, 10_000), (60_000, 60_000), (2**31 - 1, 2**31 - 1)])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_header_of_very_many_pixels_is_refused(folder, size):
    (folder / "digit_5" / "bomb.png").write_bytes(huge_png(*size))
    with pytest.raises(ConfigurationError, match=r"pixels.*bomb\.png"):
        open_source(f"folder:{folder}", image_size=8)


def test_an_unreadable_file_is_named_while_streaming(folder, monkeypatch):
    monkeypatch.setattr(records, "MEMORY_LIMIT_BYTES", 100)
    train = open_source(f"folder:{folder}", image_size=8).train
    for file in (folder / "digit_5").iterdir():
        file.write_bytes(b"no image")
    with pytest.raises(Exception, match=r"The image file cannot be read.*\.png"):
        list(evaluation_batches(train, 8).as_numpy_iterator())


@pytest.mark.parametrize("image_size", [None, 8])
def test_a_color_image_among_greyscale_ones(folder, image_size):
    Image.new("RGB", (8, 8)).save(folder / "digit_5" / "color.png")
    with pytest.raises(ConfigurationError, match=r"color\.png, Pillow mode 'RGB'"):
        open_source(f"folder:{folder}", image_size=image_size)


@pytest.mark.parametrize("name", ["a\nb", "a\rb", "tab\t", "a\x0bb", "a\x85b", "a\u2028b", "a\x7fb", " ", "\udce9"])
def test_a_class_name_that_does_not_fit_on_a_line(folder, name):
    (folder / "digit_3").rename(folder / name)
    with pytest.raises(ConfigurationError, match="class name does not fit on one line.*of label"):
        open_source(f"folder:{folder}")


def test_classes_whose_names_differ_by_spaces(folder):
    (folder / "digit_3").rename(folder / "digit_4 ")
    with pytest.raises(ConfigurationError, match="same name. Received: 'digit_4', of labels 3, 4"):
        open_source(f"folder:{folder}")


def test_deep_images_are_refused(tmp_path):
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(ConfigurationError, match="more than 8 bits"):
        decode_image(tmp_path / "deep.png", (4, 4, 3))


def test_bad_folders(tmp_path, folder):
    with pytest.raises(ConfigurationError, match="Folder not found"):
        open_source(f"folder:{tmp_path / 'none'}")
    with pytest.raises(ConfigurationError, match="subfolders: digits"):
        open_source(f"folder:{tmp_path}")
    (folder / "empty").mkdir()
    with pytest.raises(ConfigurationError, match=r"no images.*empty"):
        open_source(f"folder:{folder}")


def test_bad_split_folders(tmp_path, few_digits):
    images, labels = few_digits
    write_images(tmp_path / "train", images[labels < 9], labels[labels < 9])
    write_images(tmp_path / "test", images, labels)
    with pytest.raises(ConfigurationError, match="classes without training images. Received: digit_9"):
        open_source(f"folder:{tmp_path}")
    (tmp_path / "val").mkdir()
    (tmp_path / "validation").mkdir()
    with pytest.raises(ConfigurationError, match="two validation folders"):
        open_source(f"folder:{tmp_path}")


@pytest.mark.parametrize("image_size", [0, (8,), "8", (8, 8, 1), True])
def test_bad_image_size(folder, image_size):
    with pytest.raises(ConfigurationError, match=r"\(height, width\) in pixels"):
        open_source(f"folder:{folder}", image_size=image_size)
