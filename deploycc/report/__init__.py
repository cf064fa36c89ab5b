"""Latency reports: schema, statistics, rendering."""
