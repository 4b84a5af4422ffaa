"""Reference models of FMF-Benchmark."""
