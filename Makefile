# Every target makes the environment .venv when it is missing or older than requirements.txt; nothing has to be activated.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test test-all check bench paper
demo: $(READY)
	@$(BIN)/python scripts/demo.py

test: $(READY)
	@$(BIN)/python -m pytest

test-all: $(READY)
	@$(BIN)/python -m pytest -m slow

check: $(READY)
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/python -m pytest tests/test_layers.py tests/test_config.py tests/test_documents.py

bench: $(READY)
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[bench]'
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps porespy==3.0.4
	@$(BIN)/python -m tests.benchmarks

# The paper's scale on your own labelled tomograms: make paper IMAGES='a/*_image.tif' LABELS='a/*_labels.tif'. 21 artificial
# cubes of 20 um, three rows; needs a GPU with 24 GB and days (README, "On a GPU node").
PAPER := runs/paper
paper: $(READY)
	@test -n "$(IMAGES)" -a -n "$(LABELS)" || { echo "make paper: give IMAGES='...' and LABELS='...' of labelled tomograms"; exit 2; }
	@$(BIN)/python scripts/generate_structures.py scale=paper out=$(PAPER)/structures
	@$(BIN)/python scripts/simulate_scans.py scan=paper 'labels=$(PAPER)/structures/*/labels.tif' out=$(PAPER)/synthetic
	@$(BIN)/python train.py -m +experiment=real,hybrid,hybrid_threshold scale=paper data=folder \
		'images=$(IMAGES)' 'labels=$(LABELS)' synthetic=$(PAPER)/synthetic

$(READY): requirements.txt pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "batseg needs Python 3.11 or newer; set PYTHON=python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "making the environment .venv (a few minutes the first time)" >&2
	@$(BIN)/python -m pip install -q --disable-pip-version-check -r requirements.txt >&2
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[test]' >&2
	@touch $@
