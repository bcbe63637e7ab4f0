"""Where examples come from: arrays, `.npz` files, folders of images, TensorFlow Datasets."""
