"""The checks of a recipe before anything heavy starts."""
