"""Whether the page of a reproduction is whole: every claim has a verdict, n and numbers, and its evidence is there."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from stepscope_commands.reproducing.claims import CLAIMS
from stepscope_commands.reproducing.telling import UNTESTED


def missing(folder: Path) -> list[str]:
    """What a page lacks, a line each."""
    page = (folder / "index.html").read_text(encoding="utf-8")
    rows = {row["id"]: row for row in json.loads((folder / "results.json").read_text(encoding="utf-8"))["rows"]}
    found: list[str] = []
    for claim in CLAIMS:
        row = rows.get(claim.id)
        if row is None or f'<tr id="{claim.id}">' not in page:
            found.append(f"{claim.id} has no row")
        elif row["verdict"] == UNTESTED or not row["n"]:
            found.append(f"{claim.id} has no verdict: {row['finding']}")
        else:
            names = [name for name, _ in row["evidence"]]
            found += [f"{claim.id} has no evidence of {claim.test}"] * (claim.test not in names)
            for _, address in row["evidence"]:
                file, _, anchor = address.partition("#")
                path = folder / file
                if not path.exists() or f'id="{anchor}"' not in path.read_text(encoding="utf-8"):
                    found.append(f"{claim.id} points to {address}, and there is no such section")
    return found


if __name__ == "__main__":
    complaints = missing(Path(sys.argv[1]))
    sys.stdout.writelines(f"{line}\n" for line in complaints or ["every claim has its verdict and its evidence"])
    sys.exit(bool(complaints))
