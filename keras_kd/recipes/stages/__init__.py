"""The stages of the package, one file for each kind."""
