"""Grids, plots, tables and the HTML page."""
