"""What every learned model shares: stores, batches, training, scoring, weights, layers."""
