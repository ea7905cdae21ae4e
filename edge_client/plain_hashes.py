"""Imported first, keeps `hashlib` from loading OpenSSL, 3.4 MB of a trainer's memory: Python has the hashes too."""

import sys

sys.modules.setdefault("_hashlib", None)  # type: ignore[arg-type]  # what an import of it then finds is an ImportError
