"""The parts of a trial: datasets, models, gradients, attacks, metrics."""
