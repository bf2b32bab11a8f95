"""The data sets: `load` finds or downloads the files, checks them and returns arrays.

Files are searched in the folder that the environment variable SOMLIB_DATA names; when it is not
set, in the project's `data/`, where they are downloaded to when missing. Every load checks the
SHA-256 of the decompressed content (mirrors recompress, so the `.gz` bytes differ): it costs little
beside the decompression, and no result can come from a file that is not the official one. The file
of Reuters-10k is checked by its Git id. RCV1, from which that set is approximated where the file is
missing, is left to scikit-learn, which keeps it in a form of its own; there the content is counted
instead.
"""

from somlib.data.dataset import SOURCES, SPLITS, Dataset, load
from somlib.data.download import DataError
from somlib.data.reuters import REUTERS_10K_COUNTS, reuters_10k

__all__ = ["REUTERS_10K_COUNTS", "SOURCES", "SPLITS", "DataError", "Dataset", "load", "reuters_10k"]
