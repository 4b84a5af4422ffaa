"""Pictures and pages: recordings, annotations, predictions, the report of a score."""
