"""Tables of times and phases, as a V2 tree and a raw recording carry them, in whatever dialect they are written."""
