"""Run the cookbook and the frameworks' tests in an environment of their own: python tests/clients/run.py [FOLDER]

Makes a virtual environment, installs fmfbench with the extra `clients`, and runs what `-m long` selects here.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parents[2]


def main(folder: Path) -> int:
    venv.create(folder, with_pip=True)
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    subprocess.run([python, "-m", "pip", "install", "-q", "-e", f"{ROOT}[clients,models,test]"], check=True)
    return subprocess.run(
        [python, "-m", "pytest", "-m", "long", str(ROOT / "tests/clients")], check=False
    ).returncode


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="fmfbench-clients-"))))
