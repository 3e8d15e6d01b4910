# Every command sets up first what it needs; `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := $(VENV)/.installed
DEV := $(VENV)/.installed-dev
VLLM := .venv-vllm

.DEFAULT_GOAL := help
.PHONY: help setup serve ask doctor test test-vllm bench-vllm check slow bench bench-policies monitoring dashboards format clean

help: ## list the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(RUN): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(DEV): $(RUN)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,check,plots]'
	@touch $@

# Not in .venv: vLLM wants other releases of torch and transformers than we do.
$(VLLM)/.installed: pyproject.toml constraints-vllm.txt
	test -x $(VLLM)/bin/python || $(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r constraints-vllm.txt -e .
	@touch $@

setup: $(DEV) ## install everything into .venv

serve: $(RUN) ## serve on port 8000; ARGS='--port 9000' to change
	$(BIN)/atts serve $(ARGS)

ask: $(RUN) ## ask a question; Q='Start with 47. Add 38. What is the result?'
	$(BIN)/atts ask $(ARGS) "$(or $(Q),Start with 47. Add 38. Multiply by 3. What is the result?)"

doctor: $(RUN) ## check this machine
	$(BIN)/atts doctor $(ARGS)

test: $(DEV) ## core and Serve tests
	$(BIN)/python -m pytest $(ARGS)

test-vllm: $(VLLM)/.installed ## the vLLM engine's tests on a CPU, in an environment of their own
	VLLM_CPU_OMP_THREADS_BIND=nobind HF_HUB_OFFLINE=1 $(VLLM)/bin/python -m pytest -m vllm \
		tests/services/engines/test_vllm_engine.py tests/services/engines/test_vllm_scoring.py $(ARGS)

bench-vllm: $(VLLM)/.installed ## the vLLM engine beside the plain loop, on one thread of a CPU
	OMP_NUM_THREADS=1 VLLM_CPU_OMP_THREADS_BIND=nobind HF_HUB_OFFLINE=1 \
		$(VLLM)/bin/python -m services.cli bench engine --engine vllm $(ARGS)

# With ARGS it is those tests alone, and the vLLM engine's own are not run.
slow: $(DEV) $(VLLM)/.installed ## guarantees at full size, soaks, long runs, vLLM on a CPU
	ATTS_VLLM_PYTHON=$(CURDIR)/$(VLLM)/bin/python $(BIN)/python -m pytest -m slow $(ARGS)
	$(if $(ARGS),,$(MAKE) test-vllm)

check: $(DEV) ## style, types, one-way imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

monitoring: $(RUN) ## Prometheus beside a server: make serve ARGS='--metrics-port 8080' first
	$(BIN)/python -m deployment.monitoring $(ARGS)

dashboards: $(DEV) ## write Grafana's dashboards anew from deployment/grafana
	$(BIN)/python -m deployment.grafana

bench: $(RUN) ## the policies side by side over HTTP
	$(BIN)/atts bench main $(ARGS)

# What docs/benchmarks.md shows. Each run goes on where it was stopped; remove results/ to begin anew.
# All candidates start at once, as in the paper; what ships starts them as they are needed.
EVAL := $(BIN)/atts eval --resume --candidates 8 --option start=all --paste docs/benchmarks.md
# atts-sync takes 2 of 8 at the shipped rate of 0.2: rate-0.25 is atts at the rate it realises.
MATCHED := rate-0.25=atts:takeover_rate=0.25
NEEDED := needed=atts:start=needed target-needed=target-only:start=needed
ALL := target-only draft-only atts atts-sync $(MATCHED) random-takeover self-consistency best-of-n \
	specreason speculative-thinking deepconf-online $(NEEDED)
SWEEP := target-only atts rate-0.05=atts:takeover_rate=0.05 rate-0.1=atts:takeover_rate=0.1 \
	rate-0.4=atts:takeover_rate=0.4 adaptive=atts:coverage=adaptive no-consensus=atts:consensus=false \
	confidence=atts:confidence=0.95 continue=atts:on_rejection=continue \
	half-a-step=atts:draft_tokens=12 short-takeover=atts:target_tokens=8 \
	$(NEEDED)

bench-policies: $(DEV) ## every policy on 200 held-out problems, into docs/benchmarks.md (twenty minutes)
	test -e docs/benchmarks.md || cp benchmarks/policies.md docs/benchmarks.md
	$(EVAL) --dataset embedded:n=200,seed=7 --seeds 3 --at-once 8 --out results/policies \
		$(addprefix --policy ,$(ALL)) $(ARGS)
	$(EVAL) --dataset embedded:n=200,seed=7 --limit 100 --seeds 3 --at-once 1 --out results/alone \
		$(addprefix --policy ,target-only atts atts-sync $(MATCHED)) $(ARGS)
	$(EVAL) --dataset embedded:n=100,seed=8 --seeds 1 --at-once 8 --out results/sweep \
		$(addprefix --policy ,$(SWEEP)) $(ARGS)

format: $(DEV) ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove what the commands made
	rm -rf $(VENV) $(VLLM) *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
