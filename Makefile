# make demo   the server and the page, on this machine
# make test   what CI runs: lint, types, tests
# OPTIONS=... for the page, as in: make demo OPTIONS="--port 7861"; python app.py --help has them
# PYTHON=...  the interpreter to build .venv with, if the right one is not found

ifndef PYTHON
PYTHON := $(shell for p in python3.12 python3.11 python3; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' \
	2>/dev/null && echo $$p && break; done)
endif
BIN := .venv/bin
PYTEST = $(BIN)/python -m pytest --durations=20
COMPUTING := tests/training tests/benchmarks tests/model_repository

.PHONY: demo test lint test-computing test-serving test-others

demo: .venv/.demo
	@exec $(BIN)/python app.py --embedded $(OPTIONS)

# Most tests of servers wait, those of training compute: so they run beside each other.
test: .venv/.test
	@echo "Lint and three runs of tests beside each other, each printed when it ends: half an hour on 2 cores"
	@$(MAKE) --no-print-directory --keep-going --output-sync=target --jobs=3 \
		lint test-computing test-serving test-others

test-computing: .venv/.test
	$(PYTEST) $(COMPUTING)

test-serving: .venv/.test
	$(PYTEST) tests/serving

test-others: .venv/.test
	$(PYTEST) tests $(addprefix --ignore=,$(COMPUTING) tests/serving)

lint: .venv/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy client demo serving training benchmarks app.py tests
	$(BIN)/mypy model_repository/preprocess/1
	$(BIN)/mypy model_repository/postprocess/1

# The demo needs no TensorFlow.
.venv/.demo: EXTRAS = app,serving
.venv/.test: EXTRAS = dev
.venv/.demo .venv/.test: pyproject.toml constraints.txt
ifeq ($(strip $(PYTHON)),)
	@echo "Python 3.11 or 3.12 with its venv module is needed and was not found." >&2
	@echo "Install it (Debian, Ubuntu: apt install python3-venv) or name it: make PYTHON=/path/to/python3.12" >&2
	@exit 1
endif
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' || { \
		echo "Python 3.11 or 3.12 is needed, but PYTHON=$(PYTHON) is not one." >&2; exit 1; }
	@echo "Installing [$(EXTRAS)] into .venv: a few minutes the first time"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt --editable '.[$(EXTRAS)]'
	@touch $@
