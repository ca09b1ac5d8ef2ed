"""Print every requirement of pyproject.toml, one a line: what pip's dry run for another Python resolves."""

import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
for group in [project["dependencies"], *project["optional-dependencies"].values()]:
    print("\n".join(group))
