# make book | pdf | test | lab | notebooks | check | wheel | bench | records | clean        (README.md has the plain commands behind each)
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
BENCH  ?= --output bench-here --force
NB     ?= $(sort $(wildcard book/*.ipynb))
# Strict: every stored text output is compared. Two notebooks at a time, one thread each: two threads each would fight.
# Freed memory is kept for the next step (glibc; see metalib.fast.memory.keep_memory): the same numbers, sooner.
FAST   := MALLOC_MMAP_THRESHOLD_=1073741824 MALLOC_TRIM_THRESHOLD_=2147483647
# Stored by one CPU, checked with the arithmetic of another: what does not survive AVX2 shows here. Without AVX2: as it is.
CAP    := $(shell grep -qw avx2 /proc/cpuinfo 2>/dev/null && \
          echo ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2)
# The time limits tell a hang from a slow machine; no notebook is red because it took long.
# In UTF-8, whatever the locale: PyTorch's compiler reads its own files in that of the locale.
NBVAL  := METALIB_QUIET=1 OMP_NUM_THREADS=1 PYTHONUTF8=1 $(FAST) $(CAP) $(BIN)/python -m pytest --nbval \
          --nbval-sanitize-with tests/sanitize.cfg --nbval-cell-timeout=1800 --nbval-kernel-startup-timeout=900 \
          -p no:cacheprovider -n 2 --dist loadscope

# A user's own settings have no say in what is tested (conftest.py sees to the others).
unexport PYTHONWARNINGS PYTHONOPTIMIZE

.PHONY: help venv book pdf test unit notebook-test check lab notebooks wheel bench records clean
help:
	@echo "make book        build the pages        (_build/html/index.html)"
	@echo "make pdf         print the whole book to one PDF, linked from its first page   (needs Chromium)"
	@echo "make test        unit tests, then every notebook run again and compared with its stored outputs"
	@echo "make lab         open your own copy of the chapters in JupyterLab   (my-book/; what you write there is kept)"
	@echo "make notebooks   run the notebooks in place and normalise them   (NB=book/one.ipynb for one)"
	@echo "make check       compare notebooks with their stored outputs     (NB=book/one.ipynb for one)"
	@echo "make wheel       one file with the library, the exercises' checks and the records that chapters read   (dist/)"
	@echo "make bench       metalib beside higher, TorchOpt, learn2learn and plain PyTorch (about 11 minutes; BENCH=--force for the committed record)"
	@echo "make records     run the recipes whose records are older than a commit   (SINCE=abc1234; without it: continue)"
	@echo "make clean       remove what was built (not .venv)"

venv: $(STAMP)
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || \
		{ echo "Python 3.11 or newer is needed and $(PYTHON) is older: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[book,test,lab,bayes,rl,images,language]"
	@touch $@

book: venv
	$(BIN)/jupyter-book build . --all -W -n --keep-going
	@echo "Open _build/html/index.html (or: $(BIN)/python -m http.server --directory _build/html, then http://localhost:8000)"

pdf: book
	$(BIN)/python tools/pdf.py

# Both halves run and both verdicts stand at the end; red if either is.
test: venv
	@unit=passed; notebooks=passed; \
	$(MAKE) --no-print-directory unit || unit=FAILED; \
	$(MAKE) --no-print-directory notebook-test || notebooks=FAILED; \
	echo "make test: unit tests $$unit, notebooks $$notebooks"; \
	test "$$unit $$notebooks" = "passed passed"

unit: venv
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile tests

notebook-test: venv
	$(NBVAL) book

check: venv
	$(NBVAL) $(NB)

# A copy of the reader's own. What the book changes comes into it, what the reader changes stays (tools/my_book.py).
lab: venv _build/numbers.json
	$(BIN)/python tools/my_book.py
	cd my-book && $(abspath $(BIN))/jupyter lab

_build/numbers.json: $(wildcard book/*.ipynb book/*.md book/*.bib) _toc.yml _config.yml
	@$(MAKE) --no-print-directory book

notebooks: venv
	METALIB_QUIET=1 OMP_NUM_THREADS=1 $(BIN)/jupyter nbconvert --to notebook --execute --inplace --ExecutePreprocessor.timeout=600 $(NB)
	$(BIN)/nbstripout --keep-output --keep-count --keep-id \
		--extra-keys "metadata.language_info cell.metadata.execution" $(NB)
	$(BIN)/python tools/normalise.py $(NB)

# Without what an earlier build left behind: setuptools would pack it again.
wheel: venv
	rm -rf build dist
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .
	@ls -l dist/*.whl

# learn2learn 0.2.0 was published with C files that Python 3.11 no longer compiles: Cython writes them again. It imports
# gym, requests and scipy; the rest of what it asks for is left out. Where it cannot be built, the benchmark says so.
bench: venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[bench]"
	$(BIN)/python -m pip show --quiet learn2learn 2>/dev/null || { \
		$(BIN)/python -m pip install --quiet -c constraints.txt cython gym requests scipy setuptools wheel && \
		CYTHON_FORCE_REGEN=1 $(BIN)/python -m pip install --quiet -c constraints.txt --no-deps --no-build-isolation \
			--use-pep517 --config-settings=--global-option=build_ext learn2learn || \
		echo "learn2learn could not be built here; the benchmark runs without it"; }
	METALIB_QUIET=1 $(BIN)/python -m bench $(BENCH)

records: venv
	$(BIN)/python tools/records.py $(if $(SINCE),--since $(SINCE)) $(if $(ONLY),--only $(ONLY))

clean:
	rm -rf _build build dist *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path "./$(VENV)/*" -prune -exec rm -rf {} +
	find . -name .ipynb_checkpoints -not -path "./$(VENV)/*" -prune -exec rm -rf {} +
