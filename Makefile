# Every target sets up what it needs in .venv; a second call installs nothing.  GNU make 3.81 (macOS) is enough.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

# Which notebooks `make notebooks` and `make test` take, and what else to pass to JupyterLab, pytest and so on.
NOTEBOOKS ?= $(wildcard notebooks/*.ipynb)
ARGS      ?=

.DEFAULT_GOAL := help
# Training uses every core: two targets at a time would only slow each other down.
.NOTPARALLEL:
.PHONY: help demo test lint unit slow nbval test-ui site serve test-site mutants lab bench notebooks format repo clean

help:  ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(STAMP)  ## train a GAN on handwritten digits; pictures, GIF and score go to runs/demo/
	@$(BIN)/python examples/demo.py $(ARGS)

test: lint unit slow nbval  ## lint, unit tests, the slow ones too, and every notebook run as a test

lint: $(STAMP)  ## ruff, on the code and the notebooks
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .

# One process a core with one thread each: the networks of tests are too small for more, and whatever else is running
# would make two threads wait for one another.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

unit: $(STAMP)  ## the unit tests that are quick; ARGS="tests/test_losses.py" for some of them
	$(PYTEST) -m "not slow" $(ARGS)

slow: $(STAMP)  ## the slow tests: runs killed at random moments, and the like
	$(PYTEST) -m slow $(ARGS)

# nbval runs each notebook's cells as they stand; the profile cuts the budgets to seconds.
nbval: $(STAMP)  ## run every notebook with tiny budgets and compare its checked outputs
ifeq ($(strip $(NOTEBOOKS)),)
	@echo "There is no notebook in notebooks/ to run."
else
	GANLIB_PROFILE=ci GANLIB_DOWNLOAD=0 $(PYTEST) --nbval-lax --nbval-current-env --nbval-cell-timeout=300 $(NOTEBOOKS)
endif

# The panel and the playground, on the kernel here, on the one before, and on Colab's kernel and widgets: folders of
# older packages that a test's kernel imports instead (--no-deps: the rest is as in .venv).
OLDER := $(VENV)/older

test-ui: .chromium $(STAMP) $(OLDER)/ipykernel-7.3 $(OLDER)/colab  ## use the live parts of notebooks in a real browser
	@$(BIN)/python -c "import playwright" 2>/dev/null || $(BIN)/python -m pip install -e '.[dev,ui]'
	$(BIN)/python -m pytest tests/ui $(ARGS)

$(OLDER)/ipykernel-7.3: PACKAGES := ipykernel==7.3.0
$(OLDER)/colab: PACKAGES := ipykernel==6.17.1 ipywidgets==7.7.1 jupyterlab_widgets==1.1.11 ipython==7.34.0 \
    backcall decorator pickleshare ipython-genutils nest-asyncio
$(OLDER)/%: Makefile | $(STAMP)
	@rm -rf $@ $@.part
	$(BIN)/python -m pip install --disable-pip-version-check --no-deps --target $@.part $(PACKAGES)
	@mv $@.part $@ && touch $@

BOOK := $(VENV)/.book

site: $(BOOK)  ## build the book, all notebooks as pages to read in a browser: open site/build/index.html
	$(BIN)/python -m sphinx -q -W --keep-going -d build/book -b html site site/build

serve: site  ## the book at http://localhost:8000
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory site/build 8000

test-site: .chromium $(BOOK)  ## read the book in a real browser, without a network
	$(BIN)/python -m pytest tests/site $(ARGS)

$(BOOK): $(STAMP)
	$(BIN)/python -m pip install --disable-pip-version-check -e '.[dev,ui,site]'
	@touch $@

.chromium:
	@command -v chromium >/dev/null || { echo "There is no Chromium to test in: apt-get install chromium" >&2; exit 1; }

# [tool.mutmut] in pyproject.toml says which modules and which tests. What was tried is remembered in mutants/.
mutants: $(STAMP)  ## break the core a line at a time: do the tests notice? ARGS="ganlib.losses*" for one module
	@$(BIN)/python -c "import mutmut" 2>/dev/null || $(BIN)/python -m pip install -e '.[dev,mutants]'
	OMP_NUM_THREADS=1 $(BIN)/python -m mutmut run $(ARGS)
	@$(BIN)/python -m mutmut results | grep -v 'not checked' || true
	@$(BIN)/python -m mutmut export-cicd-stats && cat mutants/mutmut-cicd-stats.json

# Jupyter does not run as root unless told to: better said before the environment is installed than after.
ifeq ($(shell id -u)$(findstring --allow-root,$(ARGS)),0)
lab:
	@echo "Jupyter does not run as root (everybody who reaches its page could do anything here). If that is what" \
	    "you want, as in a container: make lab ARGS=--allow-root" >&2; exit 1
else
lab: $(STAMP)  ## open notebook 00 in JupyterLab (its kernel "Python 3" is this environment)
	$(BIN)/python -m jupyterlab --config=scripts/lab.py $(ARGS)
endif

bench: $(STAMP)  ## measure speed, waiting and the quality a minute buys; ARGS="--only minute" for a part
	$(BIN)/python -m benchmarks $(ARGS)

notebooks: $(STAMP)  ## execute the notebooks anew, in place, with full budgets for this machine
ifeq ($(strip $(NOTEBOOKS)),)
	@echo "There is no notebook in notebooks/ to execute."
else
	$(BIN)/python -m nbconvert --to notebook --execute --inplace --ExecutePreprocessor.timeout=-1 \
	    --ExecutePreprocessor.record_timing=False $(NOTEBOOKS)
	$(BIN)/python scripts/clean_notebooks.py $(NOTEBOOKS)
endif

format: $(STAMP)  ## let ruff repair and format what it can
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

repo:  ## OWNER=... REPO=...: point every badge and install line to your fork
	@$(call need_python)
	@$(PYTHON) scripts/set_repository.py $(if $(OWNER)$(REPO),"$(OWNER)/$(REPO)")

clean:  ## remove the environment and the caches; runs and image sets stay
	rm -rf $(VENV) build mutants .pytest_cache .ruff_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	find . -name .ipynb_checkpoints -type d -prune -exec rm -rf {} +

define need_python
$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
    { echo "ganlib needs Python 3.11 or newer, and '$(PYTHON)' is not: install one and name it, as in: make PYTHON=python3.12" >&2; exit 1; }
endef

# An environment that works is kept, whatever $(PYTHON) is; a missing or half-made one is made (anew).
$(STAMP): pyproject.toml
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { { $(call need_python); } && $(PYTHON) -m venv $(VENV); }
	$(BIN)/python -m pip install --disable-pip-version-check -e '.[dev]'
	@touch $@
