"""The models: one module or package per family, each with its formulas, networks, estimators."""
