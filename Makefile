# `make` alone lists the targets. Everything they need is set up by them: a machine needs Python 3.11 or newer, and make.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

ifndef PYTHON
PYTHON := $(shell for found in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$found -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$found; break; }; done)
endif
VENV := .venv
BIN := $(VENV)/bin
MOTO := .venv-moto
DOCS := .venv-docs
CHART := charts/llmbatch-operator
INSTALL := pip install --quiet --disable-pip-version-check --require-hashes
TOOLCHAIN := PYTHONPATH=tests $(PYTHON) -m toolchain
LOCK := UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile --quiet --no-config --no-annotate \
	--universal --python-version 3.11 --generate-hashes
VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' operator/llmbatch/__init__.py)
REVISION = $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
IMAGE ?= llmbatch-operator:$(VERSION)
WORKERS ?= 2
ARGS ?=

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  \033[1m%-14s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: venv
venv: $(VENV)/installed ## make the virtual environment .venv with everything pinned

$(VENV)/installed: | python
$(VENV)/installed: requirements-dev.txt pyproject.toml
	@echo "installing into $(VENV)" >&2
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/$(INSTALL) -r requirements-dev.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(MOTO)/installed: | python
$(MOTO)/installed: requirements-moto.txt
	@echo "installing into $(MOTO)" >&2
	@$(PYTHON) -m venv $(MOTO)
	@$(MOTO)/bin/$(INSTALL) -r requirements-moto.txt
	@touch $@

$(DOCS)/installed: | python
$(DOCS)/installed: requirements-docs.txt
	@echo "installing into $(DOCS)" >&2
	@$(PYTHON) -m venv $(DOCS)
	@$(DOCS)/bin/$(INSTALL) -r requirements-docs.txt
	@touch $@

.PHONY: python
python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; set PYTHON=/path/to/python3" >&2; exit 1; }

.PHONY: programs
programs: python
	@$(TOOLCHAIN) controlplane > /dev/null

.PHONY: binaries
binaries: python ## find, download or build, once, what tests run: control plane, Helm, Prometheus, kstatus
	@$(TOOLCHAIN) controlplane helm prometheus kstatus

.PHONY: controlplane
controlplane: programs ## start a control plane with the CRDs, print its kubeconfig and wait for Ctrl-C
	@exec env PYTHONPATH=tests $(PYTHON) -m controlplane start --manifests crds

.PHONY: demo
demo: venv ## run the examples against an emulator on a real control plane
	@PYTHONPATH=tests $(BIN)/python examples/demo.py $(ARGS)

.PHONY: test
test: venv binaries $(MOTO)/installed ## run the unit and integration tests (ARGS='-k name' to choose)
	@$(BIN)/python -m pytest tests/unit tests/integration -n $(WORKERS) --dist worksteal $(ARGS)
ifeq ($(strip $(ARGS)),)
	@$(BIN)/python -m pytest tests/rights
else
	@echo "only some tests ran: whether the operator's rights are exact is not judged"
endif

.PHONY: e2e
e2e: venv ## install the chart into a cluster with real pods and test it there (E2E_KUBECONFIG, or a node; ARGS='-k name')
	@$(BIN)/python -m pytest tests/e2e $(ARGS)

.PHONY: e2e-kind
e2e-kind: venv ## the same in a cluster of kind, where docker runs
	@E2E_KIND=1 $(BIN)/python -m pytest tests/e2e $(ARGS)

.PHONY: e2e-shell
e2e-shell: venv ## a shell with a Kubernetes of one node, which has the operator's image; needs root
	@PYTHONPATH=tests $(BIN)/python -m e2e.node shell

.PHONY: image
image: venv ## build the image IMAGE with docker, podman or buildah, whichever works (BASE_IMAGE for another base)
	@for engine in docker podman buildah; do \
		$$engine images > /dev/null 2>&1 || continue; \
		exec $$engine build --tag $(IMAGE) --build-arg VERSION=$(VERSION) --build-arg REVISION=$(REVISION) \
			$(if $(BASE_IMAGE),--build-arg BASE_IMAGE=$(BASE_IMAGE)) .; \
	done; \
	echo "docker, podman and buildah are not there or do not work: building from Debian packages" >&2; \
	PYTHONPATH=tests $(BIN)/python -m e2e.node image $(IMAGE) dist/llmbatch-operator.tar

.PHONY: unit
unit: venv binaries ## run the unit tests alone
	@$(BIN)/python -m pytest tests/unit -n $(WORKERS) $(ARGS)

.PHONY: bench
bench: venv programs ## measure CPU, memory and API writes against their limits
	@PYTHONPATH=tests $(BIN)/python tests/performance/bench.py $(ARGS)

.PHONY: pictures
pictures: venv programs ## draw docs/pictures from a real run of the plugin on a terminal
	@PYTHONPATH=tests $(BIN)/python -m support.pictures docs/pictures

.PHONY: lint
lint: style types layers ## check style, types and layers

.PHONY: style
style: venv ## ruff's rules and format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

.PHONY: types
types: venv ## pyright
	@PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright --pythonpath $(BIN)/python

.PHONY: layers
layers: venv ## import-linter: an import never goes back
	@$(BIN)/lint-imports --no-cache

.PHONY: generate
generate: venv ## write what is generated: the CRDs, the chart's copies, and pages of docs/
	@$(BIN)/python -m llmbatch.api.crdgen crds $(CHART)/files/crds
	@$(BIN)/python charts/values_table.py $(CHART)/README.md docs/chart.md
	@$(BIN)/python examples/argocd/argocd_cm.py > examples/argocd/argocd-cm.yaml
	@$(BIN)/python -m llmbatch.api.reference docs/reference
	@$(BIN)/python -m llmbatch.observability.monitoring .

.PHONY: docs
docs: $(DOCS)/installed ## build the documentation into build/docs, with every link inside of it checked
	@$(DOCS)/bin/sphinx-build --quiet --fresh-env --nitpicky --fail-on-warning --keep-going docs build/docs
	@echo "build/docs/index.html"

.PHONY: docs-linkcheck
docs-linkcheck: $(DOCS)/installed ## follow the documentation's links to other hosts; needs a network
	@$(DOCS)/bin/sphinx-build --quiet --builder linkcheck docs build/docs-linkcheck

.PHONY: manifests
manifests: venv binaries ## write dist/llmbatch-operator.yaml: the chart with its own values and a namespace, for kubectl apply
	@PYTHONPATH=tests $(BIN)/python charts/manifests.py dist/llmbatch-operator.yaml

.PHONY: lock
lock: venv ## write the requirements files, with hashes (ARGS=--upgrade for newer versions)
	@$(LOCK) $(ARGS) pyproject.toml --output-file requirements.txt
	@$(LOCK) $(ARGS) --group build --output-file requirements-build.txt
	@$(LOCK) $(ARGS) pyproject.toml --group dev --output-file requirements-dev.txt
	@$(LOCK) $(ARGS) --group moto --output-file requirements-moto.txt
	@$(LOCK) $(ARGS) --group docs --output-file requirements-docs.txt
	@$(LOCK) $(ARGS) --group go --output-file tests/toolchain/requirements-go.txt

.PHONY: clean
clean: ## remove the environments and what tools left here; the cache stays
	@rm -rf $(VENV) $(MOTO) $(DOCS) .hypothesis .pytest_cache .ruff_cache .import_linter_cache build dist
	@find operator tests examples -name __pycache__ -type d -prune -exec rm -rf {} +
