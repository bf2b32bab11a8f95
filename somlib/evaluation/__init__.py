"""Evaluation: metrics, plots, diagrams."""
