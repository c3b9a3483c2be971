"""Turns a YAML file into a recorded run."""
