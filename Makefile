# make demo    a live demonstration in under three minutes: runs/demo/report.html
# make test    the tests, under ten minutes on two cores
# make test-sim    proofs by exhaustion, oracles and studies of the scheduler, under twenty minutes
# make test-compiled    the scheduler compiled: the same tests, the same bits, and how much faster
# make lint types test-models test-hw bench    slower or for developers
# Each makes the environment that it needs. PYTHON=python3.12 chooses an interpreter.

PYTHON ?= python3
RUN_ENV := .venv/run
TEST_ENV := .venv/test
LINT_ENV := .venv/lint
MODELS_ENV := .venv/models
HW_ENV := .venv/hw
COMPILED_ENV := .venv/compiled
PIP := -m pip install --quiet --disable-pip-version-check
SOURCES := pyproject.toml

.PHONY: demo test test-sim test-compiled lint types test-models test-hw bench headline clean

demo: $(RUN_ENV)/ready
	$(RUN_ENV)/bin/edgert demo --out runs/demo

test: $(TEST_ENV)/ready
	$(TEST_ENV)/bin/python -m pytest --no-skips

test-sim: $(TEST_ENV)/ready
	$(TEST_ENV)/bin/python $(PIP) -e '.[oracle]'
	$(TEST_ENV)/bin/python -m pytest --no-skips -m slow tests/unit tests/sim tests/fault

test-compiled: $(TEST_ENV)/ready $(COMPILED_ENV)/ready
	$(COMPILED_ENV)/bin/python -m pytest --no-skips tests/sim tests/unit/test_engine.py tests/unit/test_policies.py
	$(COMPILED_ENV)/bin/python tests/bench/compiled.py $(TEST_ENV)/bin/python $(COMPILED_ENV)/bin/python

test-models: $(MODELS_ENV)/ready
	$(MODELS_ENV)/bin/python -m pytest --no-skips -m "" tests/models

test-hw: $(HW_ENV)/ready
	$(HW_ENV)/bin/python -m pytest --no-skips -m "" tests/hw

lint: $(LINT_ENV)/ready
	$(LINT_ENV)/bin/ruff check .

types: $(LINT_ENV)/ready
	$(LINT_ENV)/bin/mypy

# The study behind docs/headline/report.html: under half an hour on two cores; interrupted, the same command goes on.
headline: $(TEST_ENV)/ready
	$(TEST_ENV)/bin/python -m edgert.study.headline --store runs/headline.db --out docs/headline

bench: $(TEST_ENV)/ready
	for file in tests/bench/*.py; do $(TEST_ENV)/bin/python $$file || exit 1; done

$(RUN_ENV)/ready: EXTRAS := tflite
$(TEST_ENV)/ready: EXTRAS := tflite,video,sim,test
$(LINT_ENV)/ready: EXTRAS := lint
$(MODELS_ENV)/ready: EXTRAS := models,tflite,test
$(HW_ENV)/ready: EXTRAS := hw,tflite,test

# The demo installs edgert as a user would; the other environments see the working tree.
$(RUN_ENV)/ready: $(SOURCES) $(shell find scheduler sw models -name '*.py' -o -name manifest.json 2>/dev/null)
	@$(PYTHON) tools/environment.py $(@D)
	$(@D)/bin/python $(PIP) '.[$(EXTRAS)]'
	@touch $@

# Compiled code is installed, not linked: it must not lie in the working tree.
$(COMPILED_ENV)/ready: $(SOURCES) setup.py $(wildcard scheduler/imprecise/*.py scheduler/imprecise/policies/*.py)
	@$(PYTHON) tools/environment.py $(@D)
	EDGERT_COMPILE=1 $(@D)/bin/python $(PIP) --force-reinstall '.[tflite,video,sim,test]'
	@touch $@

.venv/%/ready: $(SOURCES)
	@$(PYTHON) tools/environment.py $(@D)
	$(@D)/bin/python $(PIP) -e '.[$(EXTRAS)]'
	@touch $@

clean:
	rm -rf .venv build runs
