"""The methods of distillation other than by a teacher and labeled examples."""
