"""The project as a whole: its dependencies, its layers, its docstrings, its commands."""

import ast
import os
import re
import socket
import subprocess
import tomllib

import pytest

from helpers import ROOT, load_script, project_files

set_repository = load_script("set_repository")

# A module imports only from modules to its left. A new module takes its place here, and in DESIGN, first.
ORDER = [
    *(
        "runtime",
        "kernels",
        "durable",
        "budget",
        "console",
        "imageset",
        "downloads",
        "archives",
        "folders",
        "shapes",
        "portrait",
    ),
    *("toyfaces", "prepared", "idx", "cifar", "sources", "celeba", "photos", "sets"),
    *(
        "data",
        "toys",
        "viz",
        "film",
        "losses",
        "lipschitz",
        "augment",
        "models",
        "drawing",
        "plane",
        "variants",
        "latent",
    ),
    *("featurenets", "distances", "features", "inception", "featurecache", "reference", "protocol", "memorisation"),
    *("digitscore", "stacked", "metrics", "overfitting"),
    *("steps",),
    *("config", "rules", "presets"),
    *("history", "settings", "state", "checkpoint", "frames", "runfolder", "resuming", "train"),
    *("saved", "games", "board", "parallel", "running", "pictures", "evaluation", "reports", "inventory"),
    *("inversion", "reconstructing", "probe"),
    *("widgets", "cli", "__main__"),
]
LONGEST_MODULE = 350  # lines
MODULES = sorted((ROOT / "ganlib").rglob("*.py"))

# --- dependencies ---------------------------------------------------------------------------------

CONDA_TO_PIP = {"pytorch": "torch"}
DEPENDENCY = re.compile(r"^\s*- (?P<name>[\w.-]+)\s*(?P<bound>[<>=!~][^#]*?)?\s*(#\s*(?P<why>\S.*))?$")


def floor(specifier):
    """The lower bound in a version specifier, or None."""
    bound = re.search(r">=\s*([\d.]+)", specifier or "")
    return bound and bound[1]


def pip_dependencies(text):
    """Name to lower bound of everything pyproject.toml asks for, the extra `dev` included."""
    project = tomllib.loads(text)["project"]
    asked = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    return {re.match(r"[\w.-]+", line)[0]: floor(line) for line in asked}


def conda_lines(text):
    """The lines of environment.yml that ask for a package."""
    lines = text[text.index("dependencies:") :].splitlines()[1:]
    return [line for line in lines if line.lstrip().startswith("- ") and line.strip() != "- pip:"]


def conda_dependencies(text):
    """Name, as pip has it, to lower bound of everything environment.yml asks for, but python and pip."""
    found = {}
    for line in conda_lines(text):
        match = DEPENDENCY.match(line)
        if match and match["name"] not in ("python", "pip"):
            found[CONDA_TO_PIP.get(match["name"], match["name"])] = floor(match["bound"])
    return found


def differences(pip, conda):
    """One sentence for each dependency on which the two files disagree."""
    found = [f"only pyproject.toml names {name}" for name in sorted(pip.keys() - conda.keys())]
    found += [f"only environment.yml names {name}" for name in sorted(conda.keys() - pip.keys())]
    found += [
        f"{name} is >={pip[name]} in pyproject.toml and >={conda[name]} in environment.yml"
        for name in sorted(pip.keys() & conda.keys())
        if pip[name] and conda[name] and pip[name] != conda[name]
    ]
    return found


def test_pip_and_conda_ask_for_the_same():
    pip = pip_dependencies((ROOT / "pyproject.toml").read_text())
    conda = conda_dependencies((ROOT / "environment.yml").read_text())
    assert {"torch", "torchvision", "pytest", "torch-fidelity"} <= pip.keys()
    assert not differences(pip, conda)


def test_a_dependency_in_one_file_only_is_seen():
    conda = conda_dependencies(
        "dependencies:\n  - python >=3.11\n  - pytorch >=2.11  # why\n  - pip:\n      - lpips # x\n"
    )
    assert conda == {"torch": "2.11", "lpips": None}
    assert differences({"torch": "2.12", "tqdm": None}, conda) == [
        "only pyproject.toml names tqdm",
        "only environment.yml names lpips",
        "torch is >=2.12 in pyproject.toml and >=2.11 in environment.yml",
    ]


def test_both_files_start_at_the_same_python():
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    conda = (ROOT / "environment.yml").read_text()
    assert floor(needed) == floor(re.search(r"- python (.*)#", conda)[1]) == "3.11"


def test_torch_is_not_pinned_above_what_colab_has():
    # What Colab had in August 2026. A higher floor, or a ceiling, would make pip replace what is there.
    colab = {
        "torch": "2.11",
        "torchvision": "0.26",
        "ipywidgets": "7.7",
        "imageio": "2.37",
        "matplotlib": "3.10",
    }
    text = (ROOT / "pyproject.toml").read_text()
    asked = pip_dependencies(text)

    def numbers(version):
        return [int(part) for part in version.split(".")]

    assert not [name for name, has in colab.items() if numbers(asked[name]) > numbers(has)]
    assert not [line for line in tomllib.loads(text)["project"]["dependencies"] if re.search(r"[<~=]=|<", line)]


def without_a_reason(text):
    """The dependencies in an environment.yml that no comment explains."""
    return [line.strip() for line in conda_lines(text) if not re.search(r"\s#\s*\S", line)]


def test_every_dependency_says_why_it_is_there():
    text = (ROOT / "environment.yml").read_text()
    assert len(conda_lines(text)) > 10
    assert not without_a_reason(text)
    assert without_a_reason("dependencies:\n  - tqdm\n  - numpy  # arrays\n") == ["- tqdm"]


def test_the_weights_travel_with_the_package():
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["ganlib"]
    shipped = {path for pattern in data for path in (ROOT / "ganlib").glob(pattern)}
    assert shipped == {path for path in (ROOT / "ganlib" / "weights").rglob("*") if path.is_file()}


# --- layers ---------------------------------------------------------------------------------------


def imports(node, lazy):
    """The import statements under ``node``; those inside functions only if ``lazy``."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif lazy or not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from imports(child, lazy)


def wrong_imports(name, text):
    """One sentence for each import in the module ``name`` that points up, to the package, or to IPython."""
    if name != "__init__" and name not in ORDER:
        return [f"ganlib/{name}.py has no place in the order of modules; give it one in tests/test_project.py"]
    tree, found, targets = ast.parse(text), [], []
    for node in imports(tree, lazy=True):
        if isinstance(node, ast.ImportFrom) and (node.level or node.module.split(".")[0] == "ganlib"):
            path = (node.module or "") if node.level else node.module.partition(".")[2]
            targets += [path.split(".")[0]] if path else [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            parts = [alias.name.split(".") for alias in node.names]
            targets += [part[1] if part[1:] else "ganlib" for part in parts if part[0] == "ganlib"]
    modules = {path.stem for path in MODULES}
    for target in targets:
        if target in modules - set(ORDER):
            found.append(f"{name} imports {target}, which has no place in the order of modules")
        elif target not in ORDER:
            found.append(f"{name} imports '{target}' from the package; import it from the module it is defined in")
        elif name != "__init__" and ORDER.index(target) >= ORDER.index(name):
            found.append(f"{name} imports {target}, which stands above it")
    notebook_only = ["IPython"] if name == "widgets" else ["IPython", "ipywidgets"]
    for node in imports(tree, lazy=False):
        modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
        found += [
            f"{name} imports {module} when it is itself imported; do it inside the function that needs it"
            for module in modules
            if module.split(".")[0] in notebook_only
        ]
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_imports_point_downwards(path):
    found = wrong_imports(path.stem, path.read_text(encoding="utf-8"))
    assert not found


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("data", "from ganlib.train import fit", "data imports train, which stands above it"),
        ("data", "from .train import fit", "data imports train, which stands above it"),
        ("data", "from ganlib import train", "data imports train, which stands above it"),
        ("data", "import ganlib.train as t", "data imports train, which stands above it"),
        ("data", "def f():\n    from ganlib.train import fit", "data imports train, which stands above it"),
        ("train", "from ganlib import fit", "train imports 'fit' from the package"),
        ("train", "import ganlib", "train imports 'ganlib' from the package"),
        ("gadget", "", "ganlib/gadget.py has no place in the order"),
        (
            "viz",
            "try:\n    from IPython.display import Image\nexcept ImportError:\n    pass",
            "viz imports IPython",
        ),
        ("viz", "import ipywidgets", "viz imports ipywidgets"),
        ("widgets", "import IPython", "widgets imports IPython"),
    ],
)
def test_a_wrong_import_is_seen(name, text, sentence):
    assert any(found.startswith(sentence) for found in wrong_imports(name, text))


def test_right_imports_pass():
    right = "import torch\nfrom ganlib.data import load\nfrom ganlib import viz\n"
    assert not wrong_imports("train", right + "def show():\n    import IPython\n")
    assert not wrong_imports("widgets", "import ipywidgets")
    assert not wrong_imports("__init__", "from ganlib.train import fit")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_modules_are_short(path):
    length = len(path.read_text(encoding="utf-8").splitlines())
    assert length < LONGEST_MODULE


# --- docstrings -----------------------------------------------------------------------------------

# Shapes: [N, C, H, W], [B], [n, z_dim], [..., C, H, W], [2 * B]. Or: any shape. Not shapes: [0, 1], [-1, 1].
SHAPE = re.compile(r"any shape|\[(?=[^\]]*[A-Za-z])[\w.…* +/·-]+(, ?[\w.…* +/·-]+)*\]")


def takes_or_gives_tensors(function):
    """Whether an annotation of ``function`` is a tensor, or a tuple or list of them."""
    arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    notes = [ast.unparse(note) for note in [*(a.annotation for a in arguments), function.returns] if note]
    direct = [re.sub(r"(dict|Dict|Mapping|Callable)\[.*\]", "", note) for note in notes]
    return any(re.search(r"\bTensor\b", note) for note in direct)


def raised(function):
    """The names of the exceptions that the body of ``function`` raises itself; re-raising is not counted."""
    names, stack = set(), list(function.body)
    while stack:
        node = stack.pop()
        if isinstance(node, ast.Raise) and node.exc is not None:
            error = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            name = error.attr if isinstance(error, ast.Attribute) else getattr(error, "id", "")
            names |= {name} if name[:1].isupper() else set()
        if not isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Lambda):
            stack += ast.iter_child_nodes(node)
    return names


def undocumented(name, text):
    """One sentence for each thing that the docstrings of the module ``name`` leave out."""
    tree = ast.parse(text)
    found = [] if ast.get_docstring(tree) else [f"{name} has no docstring"]

    def visit(node, where, of_class):
        where, doc = f"{where}.{node.name}", ast.get_docstring(node) or ""
        special = node.name.startswith("__") and node.name.endswith("__")
        if node.name.startswith("_") and not special:
            return
        if not doc and not special:
            found.append(f"{where} has no docstring")
            return
        if isinstance(node, ast.ClassDef):
            for child in node.body:
                if isinstance(child, ast.FunctionDef | ast.ClassDef):
                    visit(child, where, doc)
            return
        # What a method leaves out, its class may say: the shapes of its tensors, the errors of its __init__.
        told = doc + "\n" + of_class
        for error in sorted(raised(node)):
            if not re.search(rf"Raises\b.*\b{error}\b", told, re.DOTALL):
                found.append(f"{where} raises {error}; its docstring needs 'Raises: {error}: if ...'")
        if not special and takes_or_gives_tensors(node) and not SHAPE.search(told):
            found.append(f"{where} handles tensors; its docstring needs their shape: [N, C, H, W], say, or 'any shape'")

    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            visit(node, name, "")
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_what_is_public_is_documented(path):
    found = undocumented(path.stem, path.read_text(encoding="utf-8"))
    assert not found


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("x = 1", "m has no docstring"),
        ('"""M."""\ndef f(): pass', "m.f has no docstring"),
        ('"""M."""\nclass A: pass', "m.A has no docstring"),
        ('"""M."""\nclass A:\n    """A."""\n    def go(self): pass', "m.A.go has no docstring"),
        (
            '"""M."""\ndef f():\n    """F."""\n    if 1:\n        raise ValueError("x")',
            "m.f raises ValueError",
        ),
        (
            '"""M."""\ndef f():\n    """F. Raises: OSError: if x."""\n    raise ValueError',
            "m.f raises ValueError",
        ),
        (
            '"""M."""\nclass A:\n    """A."""\n    def __init__(self):\n        raise OSError',
            "m.A.__init__ raises OSError",
        ),
        ('"""M."""\ndef f(x: torch.Tensor):\n    """F of x in [-1, 1]."""', "m.f handles tensors"),
        ('"""M."""\ndef f() -> tuple[Tensor, int]:\n    """F."""', "m.f handles tensors"),
        ('"""M."""\ndef f(a, *, x: Tensor | None = None):\n    """F."""', "m.f handles tensors"),
    ],
)
def test_a_poor_docstring_is_seen(text, sentence):
    assert any(found.startswith(sentence) for found in undocumented("m", text))


@pytest.mark.parametrize(
    "text",
    [
        '"""M."""\ndef f(x: Tensor):\n    """Logits ``[B]``."""',
        '"""M."""\ndef f(x: Tensor):\n    """Pictures [N, C, H, W] in [-1, 1]."""',
        '"""M."""\ndef f():\n    """F.\n\n    Raises:\n        OSError: if x.\n    """\n    raise OSError',
        '"""M."""\ndef _f(x: Tensor):\n    raise ValueError("x")',
        '"""M."""\ndef f(state: dict[str, Tensor]):\n    """F."""',
        '"""M."""\ndef f():\n    """F."""\n    try:\n        g()\n    except OSError:\n        raise',
        '"""M."""\nclass A:\n    """A on [B, C]."""\n    def go(self, x: Tensor):\n        """Go."""',
    ],
)
def test_a_good_docstring_passes(text):
    assert not undocumented("m", text)


# --- commands and files ---------------------------------------------------------------------------


def shell_lines(text):
    """The lines of fenced code blocks in a page of Markdown."""
    blocks = re.findall(r"^ *```\w*\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)
    return [line.strip().removeprefix("$ ") for block in blocks for line in block.splitlines()]


def test_ci_runs_the_test_command_of_the_readme():
    script = (ROOT / ".ci" / "run").read_text()
    commands = [line.strip() for line in script.splitlines() if line.strip() and not line.startswith("#")]
    assert commands[-1] == "make test"
    # Nothing that installs or runs by itself: it would hide a step that is missing from the command.
    assert not re.findall(r"\b(?:pip3?|python3?|pytest|apt(?:-get)?|conda)\b|venv", script)
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    readme = ROOT / "README.md"
    assert readme.is_file(), "There is no README.md to say which command runs the tests."
    commands = [re.split(r"\s+#", line)[0] for line in shell_lines(readme.read_text(encoding="utf-8"))]
    assert "make test" in commands
    assert "- run: make test" in (ROOT / ".github" / "workflows" / "test.yml").read_text()


def make(*arguments, cwd=ROOT):
    """Run make as from a fresh shell, even where `make test` is what runs this."""
    fresh = {name: value for name, value in os.environ.items() if not name.startswith("MAKE") and name != "MFLAGS"}
    return subprocess.run(["make", *arguments], cwd=cwd, env=fresh, capture_output=True, text=True)


def test_make_help_lists_every_target():
    text = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)[1].split()
    assert {"demo", "test", "lab", "bench"} <= set(phony)
    assert re.findall(r"^  make (\w+)", make().stdout, re.MULTILINE) == phony


def test_an_old_python_gets_one_sentence(tmp_path):
    (tmp_path / "old").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "old").chmod(0o755)
    for name in ("Makefile", "pyproject.toml"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    ran = make("lint", "PYTHON=./old", cwd=tmp_path)
    assert ran.returncode != 0
    assert "ganlib needs Python 3.11 or newer, and './old' is not" in ran.stderr
    assert not (tmp_path / ".venv").exists()


# A folder of somebody's own machine, at the start of a path. (URLs have something before the slash.)
OWN_FOLDER = re.compile(r"(?<![\w.~:>)}-])/(?:home|root|Users|work)/\w")


def own_folders(text):
    """The lines of ``text`` that name a folder of somebody's own machine."""
    text = re.sub(r'\\[nrt"]', " ", text)  # in a notebook's JSON a path may follow an escape
    return [line.strip() for line in text.splitlines() if OWN_FOLDER.search(line)]


def test_no_file_names_a_folder_of_one_machine():
    found = []
    for path in project_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:  # pictures and weights
            continue
        found += [f"{path.relative_to(ROOT)}: {line[:120]}" for line in own_folders(text)]
    assert not found


def test_a_folder_of_one_machine_is_seen():
    for bad in (
        "/{}/ada/gans",
        "cd /{}/x",
        '"saved to /{}/x"',
        r'"a\n/{}/x"',
        "file:///{}/x",
        "GANLIB_DATA=/{}/x",
    ):
        for folder in ("home", "root", "Users", "work"):
            assert own_folders(bad.format(folder))
    assert not own_folders("https://example.org/home/x, ~/home/x, data/Users/x, ../home/x, /usr/share/x, /content/x")


def test_every_link_points_to_the_repository_of_pyproject():
    assert not set_repository.disagreements(ROOT)


def test_the_repository_is_rewritten_everywhere_but_in_others_links(tmp_path, capsys):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "pyproject.toml").write_text('[project.urls]\nrepository = "https://github.com/OWNER/REPO"\n')
    page = (
        "[b](https://colab.research.google.com/github/{0}/blob/main/notebooks/a.ipynb)\n"
        "![t](https://github.com/{0}/actions/workflows/test.yml/badge.svg)\n"
        "git clone https://github.com/{0}.git\n"
        "see https://github.com/{0}, not https://github.com/{0}-old or https://github.com/ada/lovelace\n"
    )
    notebook = '{{"source": ["%pip install -q git+https://github.com/{0}\\n"]}}'
    (tmp_path / "README.md").write_text(page.format("OWNER/REPO"))
    (tmp_path / "notebooks" / "a.ipynb").write_text(notebook.format("else/where"))
    assert set_repository.main(["--check"], tmp_path) == 1
    assert "notebooks/a.ipynb, line 1, links to somewhere other than OWNER/REPO" in capsys.readouterr().out

    assert set_repository.main(["grace/gans.js"], tmp_path) == 0
    assert set_repository.repository(tmp_path) == "grace/gans.js"
    expected = page.format("grace/gans.js").replace("grace/gans.js-old", "OWNER/REPO-old")
    assert (tmp_path / "README.md").read_text() == expected
    assert (tmp_path / "notebooks" / "a.ipynb").read_text() == notebook.format("grace/gans.js")
    assert set_repository.main(["--check"], tmp_path) == 0


def test_half_an_address_is_refused(tmp_path, capsys):
    (tmp_path / "pyproject.toml").write_text('[project.urls]\nrepository = "https://github.com/OWNER/REPO"\n')
    assert set_repository.main(["grace/"], tmp_path) == 1
    assert "'grace/' is no address of a repository" in capsys.readouterr().err
    assert set_repository.repository(tmp_path) == "OWNER/REPO"


def test_tests_run_offline():
    # 192.0.2.1 is an address for documentation: nothing answers there, and nothing may be asked.
    for far in (
        lambda: socket.create_connection(("192.0.2.1", 80), timeout=1),
        lambda: socket.socket().connect_ex(("192.0.2.1", 80)),
        lambda: socket.getaddrinfo("example.org", 80),
    ):
        with pytest.raises(OSError, match="tests run offline"):
            far()
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname(), timeout=5).close()


# --- pages ----------------------------------------------------------------------------------------

PAGES = [path for path in project_files() if path.suffix == ".md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(page):
    text = page.read_text(encoding="utf-8")
    assert "@@" not in text and "TODO" not in text
    for link in re.findall(r"\]\(([^)#\s]+)", text):
        if "://" not in link:
            assert (page.parent / link).exists(), f"{page.name} links to {link}, which is not there."


def test_the_readme_tells_the_size_of_the_library():
    lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES)
    (claimed,) = re.findall(r"about ([\d,]+) lines", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert abs(int(claimed.replace(",", "")) - lines) < 0.05 * lines


def test_the_readmes_program_runs(monkeypatch):
    (program,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    namespace = {}
    exec(program.replace("steps=2000", "steps=2, progress=False"), namespace)
    assert namespace["history"].steps == 2


@pytest.mark.parametrize("film", sorted((ROOT / "examples").rglob("*.gif")), ids=lambda path: path.parent.name)
def test_a_film_is_small_enough_for_a_page(film):
    assert film.stat().st_size <= 2_000_000
