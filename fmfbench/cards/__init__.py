"""Cards of a store from one source: Hugging Face dataset card, Croissant 1.1 with its RAI fields, and datasheet."""
