"""Puts the shipped models into the wheel; all else about the package is in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithModels(build_py):
    """Copies each folder of `checkpoints/` that has a model card to `chargen/models/`."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return  # found in the checkout
        for card in Path("checkpoints").glob("*/MODEL_CARD.md"):
            target = Path(self.build_lib) / "chargen" / "models" / card.parent.name
            shutil.copytree(card.parent, target, dirs_exist_ok=True)


setup(cmdclass={"build_py": BuildWithModels})
