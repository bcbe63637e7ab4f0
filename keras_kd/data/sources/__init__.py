"""Data sources: arrays, `.npz` files, folders of images, TensorFlow Datasets."""
