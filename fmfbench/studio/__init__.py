"""A local page in the browser: look at a store, label it, and see what models say of it."""
