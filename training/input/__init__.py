"""From TFRecords to batches: read in an order fixed by the seed, augmented, resized, matched."""
