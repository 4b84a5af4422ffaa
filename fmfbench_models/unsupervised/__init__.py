"""Detectors that learn from normal data, on images that others published: loaders, tables, commands."""
