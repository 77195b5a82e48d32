"""Makes wheels of packages that an interpreter has installed: python3 repack.py FOLDER NAME..."""

# ruff: noqa: T201  a script for the terminal

import base64
import hashlib
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path


def repack(name: str, folder: Path) -> str:
    """Write one wheel of a package's own files; entry points make its scripts again."""
    try:
        one = distribution(name)
    except PackageNotFoundError:
        return f"not installed: {name}"
    tags = [
        line.partition(": ")[2]
        for line in (one.read_text("WHEEL") or "").splitlines()
        if line.startswith("Tag: ")
    ]
    info = next(file.parts[0] for file in one.files or () if file.name == "METADATA")
    parts = (
        ".".join(dict.fromkeys(part)) for part in zip(*(t.split("-") for t in tags), strict=True)
    )
    target = folder / f"{info.removesuffix('.dist-info')}-{'-'.join(parts)}.whl"
    record = []
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for file in one.files or ():
            away = ".." in file.parts or "__pycache__" in file.parts
            made = file.name in {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json"}
            if away or (made and file.parts[0] == info):
                continue
            data = Path(str(file.locate())).read_bytes()
            archive.writestr(zipfile.ZipInfo(str(file), (1980, 1, 1, 0, 0, 0)), data)
            entry = archive.getinfo(str(file))
            mode = Path(str(file.locate())).stat().st_mode
            entry.external_attr = (mode & 0xFFFF) << 16
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            record.append(f'"{file}",sha256={digest},{len(data)}')
        record.append(f"{info}/RECORD,,")
        archive.writestr(f"{info}/RECORD", "\n".join(record) + "\n")
    return target.name


if __name__ == "__main__":
    place = Path(sys.argv[1])
    place.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(8) as pool:
        for told in pool.map(lambda name: repack(name, place), sys.argv[2:]):
            print(told)
