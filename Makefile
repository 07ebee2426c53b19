# Needs Python 3.11, 3.12 or 3.13 and make, nothing else: each target sets up .venv from requirements.lock when it is
# missing or the lock has changed. Without make: `python tools/environment.py setup`, then `python -m bedgen_utils` of .venv.
#   make figures                 every notebook in profile cpu, then figures/ and notebooks/ are rewritten
#   make figures PROFILE=gpu     make figures ARGS="--only 03 --force"
#   make test ARGS="-k data"     make test ARGS="-m 'not slow'"
#   make TORCH=cpu               PyTorch's builds without CUDA, for machines without a GPU; asked for once, it stays

VENV  ?= .venv
ARGS  ?=
PROFILE ?=
TORCH ?=
PY    := $(VENV)/bin/python
TASKS := figures smoke released test lab studies compare report book mutants notebooks lint lock

.PHONY: help setup clean $(TASKS)

help: $(if $(TORCH),setup)
	@sed -n '/^# Needs/,/^$$/s/^# \{0,1\}//p' Makefile
	@echo "targets: setup $(TASKS) clean"

$(TASKS): setup
	@$(PY) -m bedgen_utils $@ $(if $(PROFILE),--profile $(PROFILE)) $(ARGS)

# The first Python that fits makes the environment, and from then on its own looks after it.
setup:
	@for p in $(PY) $(PYTHON) python3.11 python3.12 python3.13 python3 python; do \
	   if $$p -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1; \
	   then exec $$p tools/environment.py setup --venv $(VENV) $(if $(TORCH),--torch $(TORCH)); fi; \
	 done; \
	 echo "make: no Python 3.11, 3.12 or 3.13 with its venv module was found (python3 is: $$(python3 -V 2>&1))." >&2; \
	 echo "      Install one, or name it: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)" >&2; exit 1

clean:
	rm -rf runs book/_build .snakemake .pytest_cache .ruff_cache .mypy_cache
