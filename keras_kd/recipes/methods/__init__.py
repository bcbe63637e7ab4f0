"""The ways of distillation other than by a finished teacher and labeled examples."""
