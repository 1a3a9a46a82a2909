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
SPREAD := -n 2 --dist loadfile

.PHONY: demo test test-arm test-sim test-compiled lint types test-models test-hw bench headline clean

demo: $(RUN_ENV)/ready
	$(RUN_ENV)/bin/edgert demo --out runs/demo

test: $(TEST_ENV)/ready
	$(TEST_ENV)/bin/python -m pytest --no-skips $(SPREAD) tests/unit tests/sim
	$(TEST_ENV)/bin/python -m pytest --no-skips tests/fault

test-sim: $(TEST_ENV)/ready
	$(TEST_ENV)/bin/python $(PIP) -e '.[oracle]'
	$(TEST_ENV)/bin/python -m pytest --no-skips $(SPREAD) -m slow tests/unit tests/sim tests/fault

COMPILED_TESTS := tests/compiled tests/sim $(wildcard tests/unit/test_policies*.py) \
                  $(patsubst %,tests/unit/test_%.py,engine record report summary json)
test-compiled: $(COMPILED_ENV)/ready
	$(COMPILED_ENV)/bin/python -m pytest --no-skips $(SPREAD) $(COMPILED_TESTS)
	$(COMPILED_ENV)/bin/python -m pytest --no-skips tests/fault/test_policy_faults.py
	$(COMPILED_ENV)/bin/python tests/bench/compiled.py
	$(COMPILED_ENV)/bin/python tests/bench/streaming.py

test-models: $(MODELS_ENV)/ready
	$(MODELS_ENV)/bin/python -m pytest --no-skips $(SPREAD) -m "" tests/models

# Emulated Arm machines behind a real sshd, and the PYNQ image's packages: as root; what the system lacks is installed with apt-get.
test-arm: $(TEST_ENV)/ready
	unshare --mount --propagation private $(TEST_ENV)/bin/python -m pytest --no-skips tests/arm
	$(TEST_ENV)/bin/python -m pytest --no-skips -m "" tests/fault/test_deploy_cut.py -k "sshd or host_key"

test-hw: $(HW_ENV)/ready
	$(HW_ENV)/bin/python -m pytest --no-skips $(SPREAD) -m "" tests/hw

lint: $(LINT_ENV)/ready
	$(LINT_ENV)/bin/ruff check .

types: $(LINT_ENV)/ready
	$(LINT_ENV)/bin/mypy

# The study behind docs/headline/report.html: under half an hour on two cores; interrupted, the same command goes on.
headline: $(TEST_ENV)/ready
	$(TEST_ENV)/bin/python -m edgert.study.headline --store runs/headline.db --out docs/headline

bench: $(TEST_ENV)/ready
	for file in $(filter-out tests/bench/compiled.py,$(wildcard tests/bench/*.py)); do $(TEST_ENV)/bin/python $$file || exit 1; done

$(RUN_ENV)/ready: EXTRAS := tflite
$(TEST_ENV)/ready $(COMPILED_ENV)/ready: EXTRAS := tflite,video,sim,test
$(LINT_ENV)/ready: EXTRAS := lint
$(MODELS_ENV)/ready: EXTRAS := models,tflite,test
$(HW_ENV)/ready: EXTRAS := hw,tflite,test

# These two are installed as a user would, from a copy of the tree: what an earlier build left there is not packed again, and compiled
# code never lies in the tree. The other environments see the tree itself.
PACKED := $(SOURCES) setup.py README.md LICENSE
define install
@$(PYTHON) tools/environment.py $(@D)
rm -rf $(@D)/source && mkdir $(@D)/source
tar -c --exclude=__pycache__ --exclude='*.so' --exclude='*.egg-info' $(PACKED) scheduler sw hw models | tar -x -C $(@D)/source
$(@D)/bin/python $(PIP) './$(@D)/source[$(EXTRAS)]'
rm -rf $(@D)/source
@touch $@
endef

$(RUN_ENV)/ready: $(PACKED) $(shell find scheduler sw models -name '*.py' -o -name manifest.json 2>/dev/null)
	$(install)

$(COMPILED_ENV)/ready: export EDGERT_COMPILE := 1
$(COMPILED_ENV)/ready: $(PACKED) $(shell find scheduler sw models -name '*.py' 2>/dev/null)
	$(install)

.venv/%/ready: $(SOURCES)
	@$(PYTHON) tools/environment.py $(@D)
	$(@D)/bin/python $(PIP) -e '.[$(EXTRAS)]'
	@touch $@

clean:
	rm -rf .venv build runs
