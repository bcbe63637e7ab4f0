"""Teacher outputs cached on disk."""
