"""Small lists that lie in a cache as CSV for its users: what failed, what is damaged. No rows, no file."""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cache.commit import publish_file, withdraw
from cache.fingerprint import json_encoded


def publish_table(root: Path, path: Path, rows: Sequence[Any]) -> None:
    """Rows (of one dataclass) as a CSV with a header, in one step. Raises CacheError as ``publish_file`` does."""
    if not rows:
        withdraw(root, path)
        return
    out = io.StringIO()
    writer = csv.DictWriter(out, list(asdict(rows[0])), lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    publish_file(root, path, json_encoded(out.getvalue()))
