"""Teachers that are not Keras models: functions, SavedModels, `.tflite` files, stored logits."""
