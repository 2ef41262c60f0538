PYTHON ?= python3
RUN ?=  # a run folder whose figures and tables are made again; by default the newest with results
LABS ?=  # numbers of notebooks or names of laboratories, or all; by default the main job
# Coverage is almost free with Python's own monitoring, from 3.12 on; on 3.11: make test COVERAGE="--cov=rephase --cov-report="
COVERAGE ?= $(shell $(PYTHON) -c "import sys; print('--cov=rephase --cov-report=' * (sys.version_info >= (3, 12)))")
export COVERAGE_CORE := $(shell $(PYTHON) -c "import sys; print('sysmon' if sys.version_info >= (3, 12) else 'ctrace')")
BIN := .venv/bin

.PHONY: run figures test style tests lab docs wheels gpu-check clean
run: .venv/ready
	$(BIN)/rephase run --config configs/quick.yaml --only "$(strip $(LABS))"

figures: .venv/ready
	$(BIN)/rephase figures $(if $(strip $(RUN)),"$(strip $(RUN))")

test: .venv/ready
	$(MAKE) --jobs=2 style tests

style: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/mypy

tests: .venv/ready
	$(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder $(COVERAGE)
	$(if $(COVERAGE),@echo "coverage: $$($(BIN)/coverage report --format=total) % of the lines")

lab: .venv/ready
	$(BIN)/jupyter lab notebooks

docs: .venv/ready
	$(BIN)/sphinx-build -W --keep-going -q -j auto docs docs/_build/html
	@echo docs/_build/html/index.html

# What gpu-check needs besides torch, numpy, scipy and pandas, for a machine without a network; more: WITH="scipy pandas"
WHEELS ?= wheels
FOR ?= 3.12
WITH ?=
PLATFORMS := $(foreach glibc,2_28 2_27 2_24 2_17,--platform manylinux_$(glibc)_x86_64) --platform manylinux2014_x86_64
wheels: .venv/ready
	rm -f $(WHEELS)/*.whl
	$(BIN)/python -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --implementation cp \
		--python-version $(FOR) $(PLATFORMS) --dest $(WHEELS) $$($(BIN)/python benchmarks/gpu_check.py --wheels $(WITH))
	@du -sh $(WHEELS)

# With the Python that has torch; no environment, because one inside another would not see its packages
gpu-check:
	$(if $(wildcard $(WHEELS)/*.whl),$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-index --no-deps \
		--upgrade --target .gpu-check $(WHEELS)/*.whl)
	PYTHONPATH=.gpu-check:src $(PYTHON) benchmarks/gpu_check.py $(OPTIONS)

.venv/ready: requirements.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

clean:
	rm -rf .venv .gpu-check
