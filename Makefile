PYTHON ?= python3
LABS ?=  # numbers of notebooks or names of laboratories, or all; by default the main job
BIN := .venv/bin

.PHONY: run test lab docs clean
run: .venv/ready
	$(BIN)/rephase run --config configs/quick.yaml --only "$(strip $(LABS))"

test: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/mypy
	$(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder

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
