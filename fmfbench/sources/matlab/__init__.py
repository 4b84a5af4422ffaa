"""MAT files of every version, read by frames."""
