"""The command line: parse, call a recipe, set the exit code."""
