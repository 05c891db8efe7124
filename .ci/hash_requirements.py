"""Write .github/requirements.txt: every package of the constraints with the sha256 of its file.

    python .ci/hash_requirements.py

The hashes are those of the files that pip chooses on this platform. With them pip refuses a file
with any other hash: pip install --require-hashes -r .github/requirements.txt
"""

import json
import platform
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
CONSTRAINTS = ROOT / ".github/constraints.txt"
TARGET = ROOT / ".github/requirements.txt"
HEAD = f"""\
# Every package that `pip install -e '.[test]'` brings, with the sha256 of its file on
# {platform.system()} {platform.machine()}, Python {sys.version_info[0]}.{sys.version_info[1]}, \
torch as a CPU build. Made by: python .ci/hash_requirements.py
# pip install --require-hashes -r .github/requirements.txt && \
pip install --no-deps --no-build-isolation -e .
"""


def canonical(name: str) -> str:
    """Return a project's name as the index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def main() -> None:
    """Ask pip which files it would install, and write their hashes."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
    command += ["--report", "-", "-c", str(CONSTRAINTS), "setuptools", f"{ROOT}[test]"]
    report = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    pinned = re.findall(r"(?m)^[^#\s]+$", CONSTRAINTS.read_text(encoding="utf-8"))
    spellings = {canonical(line.partition("==")[0]): line for line in pinned}
    lines = []
    for item in report["install"]:
        name, version = item["metadata"]["name"], item["metadata"]["version"].partition("+")[0]
        archive = item["download_info"].get("archive_info")  # none for the project itself
        if archive:
            line = spellings.get(
                canonical(name), f"{name}=={version}"
            )  # pip and setuptools have none
            lines.append(f"{line} --hash=sha256:{archive['hashes']['sha256']}\n")
    lines.sort(key=str.lower)
    TARGET.write_text(HEAD + "".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
