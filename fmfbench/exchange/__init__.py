"""Where models and the scorer meet: prediction files, label files, truth and outlier files."""
