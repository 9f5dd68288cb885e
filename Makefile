# make up     a running example lab (demo-lab), everything fetched that is missing
# make test   the whole suite, against real servers
# make lint   ruff and mypy
# make bench  how much djops adds to what the servers themselves take
# make crash  djops and each server killed, each line cut, at every request of a plan: what becomes of it?
# make mutants  sabotage what compiles rights in small ways: which test catches each?
# make soak   go on trying to break it with random seeds: ARGS="--seconds 600", or "--seed N loop" again
# make clean  remove what was built here; labs and fetched programs stay (`djops down --purge`)

MAKEFLAGS += --no-print-directory
BIN := .venv/bin
# Else every program that is started compiles what it imports anew, which takes the suite twice as long.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: up test lint bench crash mutants soak clean

up:
	@scripts/bootstrap.sh local
	@$(BIN)/djops demo

test:
	@scripts/bootstrap.sh dev
	@$(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder $(ARGS)

lint:
	@scripts/bootstrap.sh dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

mutants:
	@scripts/bootstrap.sh dev
	@$(BIN)/python scripts/mutants.py $(ARGS)

soak:
	@scripts/bootstrap.sh dev
	@$(BIN)/python scripts/soak.py $(ARGS)

bench:
	@scripts/bootstrap.sh local
	@$(BIN)/python -m bench $(ARGS)

crash:
	@scripts/bootstrap.sh dev
	@$(BIN)/python -m crash $(ARGS)

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist *.egg-info
	find djops tests bench crash -name __pycache__ -type d -prune -exec rm -rf {} +
