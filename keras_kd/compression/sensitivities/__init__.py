"""What the compression of each layer costs, and the settings that reach a target."""
