"""The bridge to the TensorFlow Model Optimization Toolkit (TFMOT), which takes models of `tf_keras` only."""
