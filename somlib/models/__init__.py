"""Models: one module or package per family, each with its formulas, networks and estimators."""
