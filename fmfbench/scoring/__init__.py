"""Prediction files, label files and the official scores."""
