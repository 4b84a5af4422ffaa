"""Tables of the two detectors that learn from normal data, on small real image sets."""
