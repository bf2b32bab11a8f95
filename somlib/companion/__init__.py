"""The paper companion: command line, runner, report, cache."""
