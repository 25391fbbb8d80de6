"""Scorers, tables and the report page."""
