"""Benchmarks: each module is run as a program and writes one result file."""
