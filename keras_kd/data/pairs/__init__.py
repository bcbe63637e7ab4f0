"""Inputs of several parts, such as one for the teacher and one for the student: joining and augmenting them."""
