"""Training: samples, settings, one step, validation, the run folder."""
