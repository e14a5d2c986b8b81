"""Real images that are bundled with the project."""
