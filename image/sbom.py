"""What is in the image as CycloneDX 1.5 JSON: sbom.py MANIFEST VERSION, from the manifest of mkosi.

All that runs comes from Debian's packages, the Python modules too; our own code is the one component beside.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import NAMESPACE_URL, uuid5


def bill(manifest: dict[str, Any], version: str) -> dict[str, Any]:
    """The document."""
    components = [
        {
            "type": "library",
            "name": one["name"],
            "version": one["version"],
            "purl": f"pkg:deb/debian/{quote(one['name'])}@{quote(one['version'])}"
            f"?arch={one['architecture']}&distro=trixie",
        }
        for one in sorted(manifest["packages"], key=lambda one: str(one["name"]))
        if one["type"] == "deb"
    ]
    whole = json.dumps(components).encode().hex()
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid5(NAMESPACE_URL, version + whole)}",
        "version": 1,
        "metadata": {"component": {"type": "firmware", "name": "isthmus", "version": version}},
        "components": components,
    }


def main() -> int:
    """By the command line."""
    json.dump(bill(json.loads(Path(sys.argv[1]).read_text()), sys.argv[2]), sys.stdout, indent=1)
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
