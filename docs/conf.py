"""The site of the documents: `sphinx-build -W -c docs . build/site`, from the project's root.

The root is the source, so that links between README, docs/, benchmarks/ and examples/ are the same
on the site and where the files are read.
"""

from chargen import __version__

project = "chargen"
version = release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "docs/index"
include_patterns = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "docs/**.md",
    "benchmarks/results/*.md",
    "examples/**.md",
    "checkpoints/*/MODEL_CARD.md",
]
exclude_patterns = [".venv", "build", "tests"]
myst_heading_anchors = 3
autodoc_typehints = "none"
napoleon_google_docstring = False
html_theme = "furo"
html_title = "chargen"
# README marks the commands that CI runs with comments; a page of results begins with its own title.
suppress_warnings = ["myst.header", "misc.highlighting_failure"]
