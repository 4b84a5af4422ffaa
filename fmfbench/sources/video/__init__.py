"""Raw video, decoded by FFmpeg through PyAV."""
