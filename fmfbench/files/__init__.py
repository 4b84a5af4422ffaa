"""Files and their names: atomic writing, locks, .npz archives, problems collected for one report."""
