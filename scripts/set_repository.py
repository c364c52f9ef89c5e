"""Point every badge, clone and install line to the repository that pyproject.toml names.

    python scripts/set_repository.py               rewrite the pages to what pyproject.toml says
    python scripts/set_repository.py OWNER/REPO    write OWNER/REPO into pyproject.toml, then the pages
    python scripts/set_repository.py --check       change nothing; exit 1 and name the lines that disagree

Only links that can mean nothing but this project are touched: links to other people's repositories stay.
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SLUG = r"(?P<slug>[\w-][\w.-]*/[\w.-]*[\w-])"
OURS = re.compile(
    rf"""(?P<before>
        colab\.research\.google\.com/github/ |   # Open in Colab
        nbviewer\.org/github/ |
        git\+https://github\.com/ |              # pip install
        git\ clone\ https://github\.com/
    ){SLUG}
    | (?P<before2>github\.com/)(?P<slug2>[\w-][\w.-]*/[\w.-]*[\w-])(?=/actions/)   # the badge of the tests
    """,
    re.VERBOSE,
)


def repository(root: Path) -> str:
    """The ``owner/repo`` that pyproject.toml names."""
    url = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["repository"]
    return url.removeprefix("https://github.com/").removesuffix(".git").strip("/")


def pages(root: Path) -> list[Path]:
    """The files that may name the repository."""
    found = [*root.glob("*.md"), *root.glob("data/*.md"), *root.glob("docs/*.md"), *root.glob("notebooks/*.ipynb")]
    return sorted([*found, *root.glob("examples/**/*.md")])


def book(slug: str) -> str:
    """Where GitHub Pages shows the book of a repository."""
    return slug.replace("/", ".github.io/", 1)


def rewrite(text: str, slug: str, former: str | None = None) -> str:
    """``text`` with every link to this project, or to its ``former`` address, pointing to ``slug``."""

    def point(match: re.Match) -> str:
        was = match["slug"] or match["slug2"]
        return (match["before"] or match["before2"]) + slug + (".git" if was.endswith(".git") else "")

    if former:
        text = text.replace(book(former), book(slug))
        text = re.sub(rf"(?<=github\.com/){re.escape(former)}(?![\w-])", lambda _: slug, text)
    return OURS.sub(point, text)


def disagreements(root: Path) -> list[str]:
    """One sentence for each line of a page that links to another repository than pyproject.toml names."""
    slug, found = repository(root), []
    for page in pages(root):
        lines = page.read_text(encoding="utf-8").splitlines()
        found += [
            f"{page.relative_to(root)}, line {number}, links to somewhere other than {slug}; run 'make repo'."
            for number, line in enumerate(lines, 1)
            if rewrite(line, slug) != line
        ]
    return found


def set_repository(root: Path, slug: str) -> list[Path]:
    """Write ``slug`` into pyproject.toml and into every page; returns the files that changed."""
    former, changed = repository(root), []
    project = root / "pyproject.toml"
    texts = {
        project: re.sub(r'(?m)^(repository = ")[^"]*"', rf'\1https://github.com/{slug}"', project.read_text("utf-8"))
    }
    texts |= {page: rewrite(page.read_text(encoding="utf-8"), slug, former) for page in pages(root)}
    for path, text in texts.items():
        if text != path.read_text(encoding="utf-8"):
            path.write_text(text, encoding="utf-8")
            changed.append(path)
    return changed


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "slug", nargs="?", metavar="OWNER/REPO", help="the new address; default: what pyproject.toml says"
    )
    parser.add_argument("--check", action="store_true", help="change nothing, name what disagrees")
    args = parser.parse_args(arguments)
    if args.check:
        found = disagreements(root)
        print("\n".join(found) or f"Every link points to {repository(root)}.")
        return 1 if found else 0
    slug = args.slug or repository(root)
    if not re.fullmatch(SLUG, slug):
        print(
            f"'{slug}' is no address of a repository; write it as: make repo OWNER=ada REPO=gans",
            file=sys.stderr,
        )
        return 1
    changed = [str(path.relative_to(root)) for path in set_repository(root, slug)]
    print(f"Every link points to {slug}; changed: {', '.join(changed) or 'nothing'}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
