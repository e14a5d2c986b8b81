"""What every other folder stands on: settings, registries, errors, words, addressed randomness."""
