"""One file a page: a function of the store that queries once, calls pure chart functions and writes."""
