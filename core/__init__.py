"""The base of every other folder: settings, registries, errors, durations in words, addressed randomness."""
