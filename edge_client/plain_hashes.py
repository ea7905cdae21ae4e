"""Imported first, keeps `hashlib` from loading OpenSSL, 3.4 MB of a trainer's memory, where Python can hash itself."""

import sys
from importlib.util import find_spec

if any(find_spec(name) is not None for name in ("_sha2", "_sha256")):
    sys.modules.setdefault("_hashlib", None)  # type: ignore[arg-type]  # an import of it then raises ImportError
