"""Real images that come with the project."""
