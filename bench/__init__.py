"""What happens inside a trial: data sets, models, gradients, attacks, metrics."""
