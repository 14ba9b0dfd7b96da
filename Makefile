# Every job a person runs. Each installs what it needs into .venv, from the lock.
PYTHON ?= python3
PRESET ?= cpu
WORKERS ?= 2
UV_VERSION := 0.13.9
BIN := .venv/bin
# Whatever SOLUTIONS is but 1, or nothing, leaves them out.
WITHOUT := $(if $(filter-out 1,$(SOLUTIONS)),--no-solutions)

.DEFAULT_GOAL := help
.PHONY: help run lint check check-lab test test-browser test-gpu test-slow test-all book bundle lab bench lock clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

.venv/installed: requirements.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -r requirements.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps -e .
	touch $@

run: .venv/installed ## execute every chapter (PRESET=cpu, gpu or smoke), then build the book from the executed chapters
	$(BIN)/ddpm chapters --preset $(PRESET)
	$(BIN)/python -m ddpm.companion.book _build/chapters/$(PRESET) $(WITHOUT)

lint: .venv/installed ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check: lint ## the inner loop: ruff, mypy, the fast unit tests; under three minutes
	OMP_NUM_THREADS=1 $(BIN)/pytest -m "not slow and not browser and not long" -n $(WORKERS) -q tests

check-lab: ## the types that the book's JavaScript names in its JSDoc, by TypeScript; needs npx
	npx --yes --package typescript@5.9.3 tsc --project book/_static/lab/jsconfig.json

test: lint ## ruff, mypy, unit tests, the notebooks' gate and its mutants, the book
	OMP_NUM_THREADS=1 $(BIN)/pytest --nbval -m "not slow and not browser" -n $(WORKERS) --dist loadfile -q --durations=20
	$(BIN)/python -m ddpm.companion.ledger --check
	$(BIN)/jupyter-book build . -n -W --keep-going --quiet

test-browser: book ## every page in Chromium (Debian's, Chrome or Playwright's own), offline, ten minutes
	command -v chromium > /dev/null || command -v google-chrome > /dev/null || $(BIN)/playwright install chromium
	$(BIN)/pytest -m browser -n $(WORKERS) -q

test-gpu: .venv/installed ## what only a GPU can show, a minute; all other tests hide it, as their numbers are a CPU's
	$(BIN)/pytest -m gpu -q

test-slow: .venv/installed ## every mutant of the chapters, every copy of a chapter, 200 kills; hours
	OMP_NUM_THREADS=1 $(BIN)/pytest -m slow -q --durations=20

test-all: test test-browser test-slow ## the slow tests, too

book: .venv/installed ## build the book from the committed outputs, two minutes (SOLUTIONS=0: without solutions)
ifneq ($(WITHOUT),)
	$(BIN)/python -m ddpm.companion.book $(WITHOUT)
else
	$(BIN)/jupyter-book build . -n -W --keep-going --quiet
	@echo "the book: _build/html/index.html"
endif

bundle: ## the package and the book's data in one zip, to put beside a chapter on a hosted notebook
	@git rev-parse --verify --quiet HEAD > /dev/null || { echo "make bundle packs the last commit: it needs git and a checkout"; exit 1; }
	mkdir -p _build
	git archive --format=zip --output=_build/ddpm.zip HEAD ddpm book ':!book/_ext/onnxruntime-web' pyproject.toml README.md LICENSE
	@git diff --quiet HEAD -- ddpm book || echo "the bundle holds the last commit, and not what has changed since"
	@echo "the bundle: _build/ddpm.zip"

lab: .venv/installed ## open the chapters in JupyterLab
	$(BIN)/jupyter-lab --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/notebooks

bench: .venv/installed ## this package against its peers, half an hour; BENCH=--quick under three minutes
	$(BIN)/python benchmarks/speed.py $(BENCH)

lock: .venv/installed ## compile requirements.txt from pyproject.toml again
	$(BIN)/uv pip compile pyproject.toml --extra book --extra test --universal --python-version 3.11 -o requirements.txt --quiet

clean: ## remove what was built and installed here
	rm -rf _build .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
