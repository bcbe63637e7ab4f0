"""The stages of the package, one file per kind."""
