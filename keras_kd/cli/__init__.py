"""The command line: parses arguments, calls a recipe, sets the exit code."""
