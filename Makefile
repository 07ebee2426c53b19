# Needs Python 3.11, 3.12 or 3.13 and make, nothing else: each target sets up .venv from requirements.lock when it is
# missing or the lock has changed. Without make: install the package in any environment and use `python -m bedgen_utils`.
#   make figures                 every notebook in profile cpu, then figures/ and notebooks/ are rewritten
#   make figures PROFILE=smoke ARGS="--only 03 --force"
#   make test ARGS="-k data"

VENV    ?= .venv
PROFILE ?= cpu
ARGS    ?=
PY      := $(VENV)/bin/python

.PHONY: help figures test smoke lab bench studies notebooks lint setup lock clean

help:
	@sed -n '/^# Needs/,/^$$/s/^# \{0,1\}//p' Makefile
	@echo "targets: figures test smoke lab bench studies notebooks lint setup lock clean"

figures: setup
	@$(PY) -m bedgen_utils figures --profile $(PROFILE) $(ARGS)

smoke: setup
	@$(PY) -m bedgen_utils smoke $(ARGS)

test: setup
	@$(PY) -m bedgen_utils test $(ARGS)

lab: setup
	@$(PY) -m jupyterlab notebooks $(ARGS)

# Long comparisons, each row of their tables in figures/studies measured once: eight hours and more on a machine that does
# nothing else. Stop them as you like; the next call goes on behind the last row.
bench: setup
	@$(PY) -m pip install --disable-pip-version-check --quiet --no-deps -r benchmarks/requirements.txt
	@$(PY) benchmarks/features.py
	@$(PY) benchmarks/equal_time.py $(ARGS)
	@$(PY) benchmarks/equal_quality.py --only ours "diffusers, our recipe" $(ARGS)
	@$(PY) benchmarks/gan_equal_time.py --threads 1 $(ARGS)
	@$(PY) benchmarks/gan_equal_time.py --threads 1 --seeds 1 2 --only ours $(ARGS)
	@$(PY) benchmarks/gan_equal_time.py --threads 1 --seeds 1 2 3 4 --only "ours without colours" DCGAN $(ARGS)

# On one core each, as the rows that are there: rows on more would not compare with them.
studies: setup
	@$(PY) benchmarks/samplers.py --threads 1 $(ARGS)
	@$(PY) benchmarks/recipes.py --threads 1 $(ARGS)
	@$(PY) benchmarks/gan_augmentation.py --threads 1 $(ARGS)
	@$(PY) benchmarks/gan_equal_time.py --threads 1 --minutes 3 --games $(ARGS)
	@$(PY) benchmarks/mode_collapse.py --threads 1 $(ARGS)
	@$(PY) benchmarks/both_models.py --threads 1 $(ARGS)
	@$(PY) benchmarks/released.py --threads 1 $(ARGS)

# Bring notebooks/*.ipynb in line with their reviewed source notebooks/py/*.py, keeping outputs of unchanged cells.
notebooks: setup
	@$(PY) -m bedgen_utils notebooks --sync

lint: setup
	@$(PY) -m ruff check

# The environment is ready when $(VENV) holds a copy of the lock and of pyproject.toml equal to ours: content counts,
# not file times, so a fresh checkout of the same lock installs nothing.
setup:
	@if $(PY) -c '' 2>/dev/null && cmp -s requirements.lock $(VENV)/installed.lock \
	    && cmp -s pyproject.toml $(VENV)/installed.toml; then exit 0; fi; \
	 set -e; \
	 fits='import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'; \
	 if ! $(PY) -c "$$fits" 2>/dev/null; then \
	   found=; \
	   for p in $(PYTHON) python3.11 python3.12 python3.13 python3 python; do \
	     if $$p -c "$$fits" >/dev/null 2>&1; then found=$$p; break; fi; \
	   done; \
	   if [ -z "$$found" ]; then \
	     echo "make: no Python 3.11, 3.12 or 3.13 with its venv module was found (python3 is: $$(python3 -V 2>&1))." >&2; \
	     echo "      Install one, or name it: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)" >&2; exit 1; \
	   fi; \
	   echo "setting up $(VENV) with $$($$found -V)"; \
	   $$found -m venv --clear $(VENV); \
	 fi; \
	 total=$$(grep -c == requirements.lock); log=$(VENV)/install.log; \
	 echo "installing the $$total packages of requirements.lock (PyTorch is most of it; minutes, once; log: $$log)"; \
	 { $(PY) -m pip install --disable-pip-version-check -r requirements.lock 2>&1 && echo all-installed; } | tee $$log \
	   | { n=0; while IFS= read -r line; do case $$line in \
	         Collecting*) n=$$((n + 1)); if [ $$((n % 25)) = 0 ]; then echo "  fetched $$n of at most $$total"; fi;; \
	         "Installing collected"*) echo "  unpacking";; \
	       esac; done; }; \
	 if ! tail -n 1 $$log | grep -q '^all-installed$$'; then tail -n 20 $$log >&2; exit 1; fi; \
	 $(PY) -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation -e .; \
	 cp pyproject.toml $(VENV)/installed.toml; cp requirements.lock $(VENV)/installed.lock; \
	 echo "$(VENV) is ready"

# Pins everything for Python 3.11 to 3.13 on Linux, macOS and Windows, keeping versions already pinned where they still fit.
lock: setup
	@$(PY) -m pip install --quiet uv
	@$(VENV)/bin/uv pip compile pyproject.toml --universal --python-version 3.11 --extra test --extra lab \
	  --no-annotate --no-emit-index-url --custom-compile-command 'make lock (from pyproject.toml, with uv)' --quiet --output-file requirements.lock

clean:
	rm -rf runs .pytest_cache .ruff_cache
