# Everything a checkout needs, from one command each. Only make and a Python of at least 3.11 are assumed; each target
# installs what it uses into .venv, once, with the versions of constraints.txt.

.DEFAULT_GOAL := help
.PHONY: help install demo sheets serve test fuzz check format bench train docs
.SUFFIXES:
.NOTPARALLEL:

VENV := .venv
BIN := $(VENV)/bin
#: Photographs and labels for the demo, the benchmarks and training; the project works without them.
DATA ?= ../shared/data
#: A folder of your own photographs for `make demo`.
IMAGES ?=
#: 1 makes the demo stop its server at the end instead of leaving it running.
DEMO_EXIT ?=
#: How many random searches `make fuzz` compares with the oracle, and the seed to repeat a run by.
SIGHTRANK_FUZZ_QUERIES ?= 5000
SIGHTRANK_FUZZ_SEED ?=
#: The tests of a file run one after the other, files side by side. `ARGS="-n 0"` runs all in one process.
PARALLEL := -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder
#: Further arguments for the program behind a target, for example `make test ARGS="tests/unit -x"`.
ARGS ?=

PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
INSTALL := $(PIP) install --quiet -c constraints.txt
CREATED := $(VENV)/.created
RUNTIME := $(VENV)/.installed
DEVELOP := $(VENV)/.installed-dev
TRAINING := $(VENV)/.installed-training
#: The few photographs that scikit-image and scikit-learn carry: unpacked beside the environment, not into it.
PHOTOS := .cache/photo-packages

help:
	@echo 'make demo     index real photographs and run the seven searches of the guide (IMAGES=DIR: your own; DEMO_EXIT=1: stop at the end)'
	@echo 'make sheets   contact sheets of searches over photographs that trained nothing, and how many hits are right'
	@echo 'make serve    start the server (ARGS="--http-port 9000" and so on)'
	@echo 'make test     run the tests (ARGS=tests/unit: a part of them)'
	@echo 'make fuzz     compare random searches with the oracle (SIGHTRANK_FUZZ_QUERIES=5000; SIGHTRANK_FUZZ_SEED=N: those of an earlier run)'
	@echo 'make check    format, lint, types, import directions, then the tests'
	@echo 'make format   let ruff put the format right'
	@echo 'make bench    measure (DATA=DIR: the folder with the photographs)'
	@echo 'make train    make the built-in model again (DATA=DIR)'
	@echo 'make docs     bring the generated tables of docs/settings.md and docs/search.md up to date'

$(CREATED):
	@python=$$(sh tools/find-python.sh) || exit 1; \
	echo "Making $(VENV) with $$($$python --version)"; \
	$$python -m venv $(VENV) && touch $@

$(RUNTIME): $(CREATED) pyproject.toml constraints.txt
	@echo 'Installing sightrank (the first time takes a minute or two)'
	@$(INSTALL) -e . || { echo 'The installation failed. Check the connection to the package index (pip config list) and run make again.' >&2; exit 1; }
	@touch $@

$(DEVELOP): $(RUNTIME)
	@echo 'Installing the development tools'
	@$(INSTALL) -e '.[dev]' || { echo 'The installation failed. Check the connection to the package index (pip config list) and run make again.' >&2; exit 1; }
	@touch $@

$(TRAINING): $(DEVELOP)
	@echo 'Installing what training needs (large)'
	@$(INSTALL) -e '.[dev,training]'
	@touch $@

$(PHOTOS): constraints.txt $(CREATED)
	@echo 'Getting the photographs inside scikit-image and scikit-learn'
	@rm -rf $(PHOTOS)
	@$(INSTALL) --no-deps --target $(PHOTOS) scikit-image scikit-learn || { rm -rf $(PHOTOS); \
	  echo 'They could not be downloaded. Use photographs of your own: make demo IMAGES=folder' >&2; exit 1; }
	@touch $(PHOTOS)

install: $(DEVELOP)

demo: $(RUNTIME) $(if $(IMAGES)$(wildcard $(DATA)/photos.zip),,$(PHOTOS))
	@$(BIN)/python -m tools.demo --data "$(DATA)" --packages "$(PHOTOS)" $(if $(IMAGES),--images "$(IMAGES)") $(if $(filter-out 0,$(DEMO_EXIT)),--exit) $(ARGS)

sheets: $(RUNTIME) $(PHOTOS)
	@$(BIN)/python -m tools.sheets --data "$(DATA)" --packages "$(PHOTOS)" $(ARGS)

serve: $(RUNTIME)
	@exec $(BIN)/sightrank serve $(ARGS)

test: $(DEVELOP)
	@$(BIN)/python -m pytest -ra $(PARALLEL) $(ARGS)

fuzz: $(DEVELOP)
	@seed="$(SIGHTRANK_FUZZ_SEED)"; seed=$${seed:-$$($(BIN)/python -c 'import secrets; print(secrets.randbelow(2**32))')}; \
	echo "$(SIGHTRANK_FUZZ_QUERIES) random searches; the same again: make fuzz SIGHTRANK_FUZZ_QUERIES=$(SIGHTRANK_FUZZ_QUERIES) SIGHTRANK_FUZZ_SEED=$$seed"; \
	SIGHTRANK_FUZZ_QUERIES=$(SIGHTRANK_FUZZ_QUERIES) SIGHTRANK_FUZZ_SEED=$$seed \
	  $(BIN)/python -m pytest -ra tests/oracle/test_search_oracle.py --hypothesis-seed=$$seed $(ARGS)

check: $(DEVELOP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy -p tools
	$(BIN)/lint-imports
	@$(MAKE) --no-print-directory test

format: $(DEVELOP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(DEVELOP)
	@$(BIN)/python -m benchmarks --data "$(DATA)" $(ARGS)

train: $(TRAINING)
	@test -e "$(DATA)/train-places.zip" || { echo 'Training needs the photographs: make train DATA=folder (see training/)' >&2; exit 1; }
	@$(BIN)/python -m training.run --data "$(DATA)" $(ARGS)

docs: $(DEVELOP)
	@$(BIN)/python -m tools.docs --write
