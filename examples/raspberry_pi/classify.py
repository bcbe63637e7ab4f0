"""Classifies images with a LiteRT file that keras_kd exported: python classify.py student_int8.tflite IMAGE..."""

import sys
import zipfile

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image

MEAN, STD = 0.0, 255.0  # (pixel - MEAN) / STD is the input of the model; here 0..1, the recipe's data.value_range


def load_image(path, shape):
    """The pixels of an image, normalized, in the shape [1, height, width, channels]."""
    _, height, width, channels = shape
    image = Image.open(path).convert("L" if channels == 1 else "RGB")
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    return (np.asarray(image, np.float32).reshape(shape) - MEAN) / STD


def quantize(values, tensor):
    """Numbers as the file stores them: as they are in a float file, integers in an int8 file."""
    scale, zero_point = tensor["quantization"]
    if not scale:
        return values.astype(tensor["dtype"])
    limits = np.iinfo(tensor["dtype"])
    return np.clip(np.round(values / scale) + zero_point, limits.min, limits.max).astype(tensor["dtype"])


def dequantize(values, tensor):
    """The numbers that the file computed."""
    scale, zero_point = tensor["quantization"]
    return scale * (values.astype(np.float32) - zero_point) if scale else values


def main(model, *images):
    labels = zipfile.ZipFile(model).read("labels.txt").decode().splitlines()
    interpreter = Interpreter(model_path=model, num_threads=4)
    interpreter.allocate_tensors()
    (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()
    for path in images:
        interpreter.set_tensor(taken["index"], quantize(load_image(path, taken["shape"]), taken))
        interpreter.invoke()
        scores = dequantize(interpreter.get_tensor(given["index"])[0], given)
        print(f"{path}: {labels[scores.argmax()]} ({scores.max():.3f})")


if __name__ == "__main__":
    main(*sys.argv[1:])
