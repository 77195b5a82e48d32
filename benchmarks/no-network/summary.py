"""What a receipt says, in short: python3 summary.py RECEIPT."""

# ruff: noqa: T201  a script for the terminal

import json
import sys
from pathlib import Path

document = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
build = document["predicate"]["buildDefinition"]
seen = build["internalParameters"]
objects = document["predicate"]["runDetails"]["byproducts"][0]["annotations"]
torch, beside = seen["torch"], seen["environment"].get("installed", [])
print(document["subject"][0]["name"])
print(
    "torch      ", torch["source"], torch["runtime"], torch["git_version"], len(torch["libraries"])
)
print("beside lock", ", ".join(one["name"] for one in beside))
print("source     ", seen["sources"]["origin"], seen["sources"]["reason"])
print("toolchain  ", seen["toolchain"]["source"], seen["toolchain"]["nvcc_version"])
print("isolation  ", seen["isolation"]["mode"], "network", seen["isolation"]["network"])
for one in objects["each"]:
    print(
        f"object      {one['source']} {one['cpu_seconds']:.0f} CPU s, {one['peak_bytes'] >> 20} MiB"
    )
