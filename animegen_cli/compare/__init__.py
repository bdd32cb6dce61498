"""Runs side by side: a table, a picture and a page; studies, their reproduction, and surveys of people."""
