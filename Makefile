PYTHON ?= python3
RUN ?=  # a run folder whose figures and tables are made again; by default the newest with results
LABS ?=  # numbers of notebooks or names of laboratories, or all; by default the main job
# Coverage is almost free with Python's own monitoring, from 3.12 on; on 3.11: make test COVERAGE="--cov=rephase --cov-report="
COVERAGE ?= $(shell $(PYTHON) -c "import sys; print('--cov=rephase --cov-report=' * (sys.version_info >= (3, 12)))")
export COVERAGE_CORE := $(shell $(PYTHON) -c "import sys; print('sysmon' if sys.version_info >= (3, 12) else 'ctrace')")
BIN := .venv/bin

.PHONY: run figures test style tests lab docs clean
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

.venv/ready: requirements.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

clean:
	rm -rf .venv
