"""Surveys: a page that asks people which of two pictures is better, and the strengths that follow from their answers."""
