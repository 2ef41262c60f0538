"""The machinery that all learned models share: stores, batches, training, scoring, weights and layers."""
