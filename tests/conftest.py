import matplotlib as mpl
from hypothesis import settings

mpl.use("agg")
# the same examples on every machine, and no stop-watch on machines of unknown speed
settings.register_profile("somlib", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("somlib")
