"""The site's hook: files of the repository as pages, links to them, generated tables, tutorials, formulas.

A link to a file outside docs/ leads to a page with its text, so that the site needs no other server.
"""

from __future__ import annotations

import ast
import posixpath
import re
from pathlib import Path
from typing import Any

import latex2mathml.converter
import options_table
import tutorial_pages
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
AT_THE_TOP = {
    "README.md": "index.md",
    "BENCHMARKS.md": "benchmarks.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
}
"""Files that stay at the top of the repository, and the pages that they are."""

REFERENCE = {
    "modules": ["modules"],
    "modules.ssm": ["modules.ssm"],
    "objectives": ["objectives"],
    "envs": ["envs", "envs.scores"],
    "data": ["data"],
    "training": ["training"],
    "offline": ["offline"],
    "config": ["config"],
    "factory": ["factory"],
    "runs": ["runs.glam", "runs.loading", "runs.export"],
}
"""Pages of the reference, and the modules whose public names they show."""

LANGUAGES = {".py": "python", ".yaml": "yaml", ".cff": "yaml", ".cpp": "cpp", "": "text"}
LINK = re.compile(r"(\]\()([^)#\s]+)(#[^)\s]*)?(\))")


def on_config(config: Any) -> Any:
    """Let a block of ``math`` become MathML, which browsers draw by themselves."""
    fences = config.mdx_configs.setdefault("pymdownx.superfences", {}).setdefault("custom_fences", [])
    fences.append({"name": "math", "class": "math", "format": formula})
    return config


def formula(source: str, *_: Any, **__: Any) -> str:
    """Return a block of LaTeX as MathML."""
    return latex2mathml.converter.convert(source, display="block")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are no file of docs/, and all that pages link to outside it."""
    for name, page in AT_THE_TOP.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / name)))
    for page, modules in REFERENCE.items():
        files.append(File.generated(config, f"reference/{page}.md", content=reference_page(page, modules)))
    for path in sorted((DOCS / "tutorials").glob("*.py")):
        for name, content in tutorial_pages.make(path).items():
            files.append(File.generated(config, f"tutorials/{name}", content=content))
    linked = {path for file in files.documentation_pages() for _, path in links(file.content_string, file.src_uri)}
    for path in sorted(linked):
        uri = site_uri(path)
        if uri.startswith("source/") and (ROOT / path).exists():
            as_it_is = path.endswith(".md") or not uri.endswith(".md")
            show = {"abs_src_path": str(ROOT / path)} if as_it_is else {"content": source_page(path)}
            files.append(File.generated(config, uri, **show))
    return files


def on_page_markdown(markdown: str, page: Page, config: Any, files: Files) -> str:
    """Turn links into the site's own, which mkdocs checks; add the table of options and the names of files shown."""
    uri = page.file.src_uri
    for target, path in links(markdown, uri):
        relative = posixpath.relpath(site_uri(path), posixpath.dirname(uri) or ".")
        markdown = re.sub(rf"(\]\(){re.escape(target)}([)#])", rf"\g<1>{relative}\2", markdown)
    markdown = re.sub(r"^(```\w+) file=(\S+)$", r'\1 title="\2"', markdown, flags=re.MULTILINE)
    return markdown.replace(options_table.MARK, options_table.render()) if options_table.MARK in markdown else markdown


def links(markdown: str, uri: str) -> list[tuple[str, str]]:
    """Return the links to files: each as it is written, and the path within the repository."""
    if uri.startswith(("source/", "reference/")):
        return []
    tops = {page: name for name, page in AT_THE_TOP.items()}
    folder = "" if uri in tops else posixpath.join("docs", posixpath.dirname(uri))
    text = re.sub(r"^```.*?^```$", "", markdown, flags=re.MULTILINE | re.DOTALL)
    targets = {match[2] for match in LINK.finditer(text) if not re.match(r"\w+:", match[2])}
    return sorted((target, posixpath.normpath(posixpath.join(folder, target))) for target in targets)


def site_uri(path: str) -> str:
    """Return the place in the site of a file or folder of the repository."""
    if path in AT_THE_TOP:
        return AT_THE_TOP[path]
    if re.fullmatch(r"docs/tutorials/\w+\.(py|md)", path):
        return f"{path.removeprefix('docs/').rpartition('.')[0]}.md"
    if (ROOT / path).is_dir():
        return f"source/{path}/index.md"
    if Path(path).suffix in LANGUAGES:
        return f"source/{path}.md"
    return path.removeprefix("docs/") if path.startswith("docs/") else f"source/{path}"


def source_page(path: str) -> str:
    """Return the page that shows a text file, or the names of the files in a folder."""
    place = ROOT / path
    if place.is_dir():
        names = sorted(child.name for child in place.iterdir() if child.name != "__pycache__")
        language, text = "text", "\n".join(names)
    else:
        language, text = LANGUAGES[place.suffix], place.read_text(encoding="utf-8").rstrip()
    return f"---\nsearch:\n  exclude: true\nhide: [toc]\n---\n\n# `{path}`\n\n````{language}\n{text}\n````\n"


def reference_page(page: str, modules: list[str]) -> str:
    """Return the page of a package: each public name, in the order of its ``__all__``."""
    parts = [f"# `torchrl_glam.{page}`\n"]
    for module in modules:
        names = "".join(f"        - {name}\n" for name in public_names(module))
        parts.append(f"::: torchrl_glam.{module}\n    options:\n      members:\n{names}")
    return "\n".join(parts)


def public_names(module: str) -> list[str]:
    """Return ``__all__`` of a module, or the classes and functions that it defines, those of its own use left out."""
    place = ROOT / "torchrl_glam" / module.replace(".", "/")
    file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    body = ast.parse(file.read_text(encoding="utf-8")).body
    for node in body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    defined = [node.name for node in body if isinstance(node, (ast.ClassDef, ast.FunctionDef))]
    return [name for name in defined if not name.startswith("_")]
