"""Annotation: keyframe boxes, propagation, weighted-median refinement, layers."""
