"""The toolkit of FMF-Benchmark."""
