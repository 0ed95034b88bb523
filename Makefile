# Isthmus. `make help` lists what there is; each of run, test, check and image works first thing
# after a clone: they install what they need, and say so.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMPS := build/stamps
# The image, namespaces and QEMU's taps need root; everything else runs as whoever called.
# What root's Python leaves behind stays in build/, so that the clone remains its owner's.
SUDO   := $(if $(filter 0,$(shell id -u)),,sudo --preserve-env=MIRROR,SECURITY_MIRROR,http_proxy,CI \
  env PYTHONDONTWRITEBYTECODE=1 MYPY_CACHE_DIR=build/mypy RUFF_CACHE_DIR=$(CURDIR)/build/ruff \
  HYPOTHESIS_STORAGE_DIRECTORY=build/hypothesis PYTEST_ADDOPTS='-o cache_dir=build/pytest')

SOURCES := $(shell find appliance webui rootfs-overlay image pyproject.toml -type f -not -name '*.pyc' -not -path '*/_compiled/*' 2>/dev/null)

# What is compiled: the modules that appliance/engine.py lists, and what goes with them.
ENGINE  := appliance/engine.py $(shell find appliance -name '*.pyx' -o -name '*.pxd' 2>/dev/null) \
  $(shell sed -n '/^    "[a-z0-9_.]*",$$/ {s|\.|/|g; s|^    "\(.*\)",$$|appliance/\1.py|p}' appliance/engine.py 2>/dev/null)

# The version after the one in pyproject.toml, for trying updates.
NEXT := $(shell awk -F '[".]' '/^version = / { print $$2 "." $$3 + 1 ".0"; exit }' pyproject.toml)

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: setup image ## build and boot the box, show it working, leave it running (ONCE=1: stop after the table)
	@$(SUDO) $(BIN)/python -m tests.lab.run $(if $(ONCE),--once)

.PHONY: client
client: ## a shell inside the IPv6-only client of the running box
	@pid=$$(sed -n 's/.*"pid": \([0-9]*\).*/\1/p' build/lab.json 2>/dev/null || true); \
	  [ -n "$$pid" ] && [ -d "/proc/$$pid" ] || { echo "no box is running: make run, in another terminal" >&2; exit 1; }; \
	  name=$$(sed -n 's/.*"client": "\([^"]*\)".*/\1/p' build/lab.json); \
	  inside=($(SUDO) ip netns exec "$$name" env PS1='client (IPv6 only) \w\$$ ' bash --norc); \
	  [ -t 0 ] || exec "$${inside[@]}"; \
	  echo "IPv6-only client ($$name); exit to leave"; \
	  "$${inside[@]}" -i || true # how the last command in it ended is no error of make's

.PHONY: test
test: setup image build/firmware/isthmus.update ## everything: lint, types, unit, namespaces, the image in QEMU, the browser
	@$(SUDO) $(BIN)/python -m tests.whole $(PYTEST_ARGS)

.PHONY: test-firmware
test-firmware: setup image build/firmware/isthmus.update ## updates, power cuts, falling back, in QEMU (CUTS=50 FIRST_CUTS=20): hours
	@$(SUDO) env CUTS="$(or $(CUTS),50)" FIRST_CUTS="$(or $(FIRST_CUTS),20)" \
	  $(BIN)/python -m pytest -m firmware -s tests/firmware $(PYTEST_ARGS)

# The version that is updated to is the same source under a higher number, and takes first settings.
build/firmware/isthmus.update: build/isthmus.raw
	@$(SUDO) env OUTPUT=build/firmware/new VERSION="$(NEXT)" FIRST_SETTINGS=1 image/build.sh
	@$(SUDO) env PYTHONPATH=. $(BIN)/python image/bundle.py build/firmware/new/isthmus.raw \
	  build/firmware/new/boot/kernel.efi "$(NEXT)" build/keys/update.key $@

.PHONY: check
check: setup ## the quick part: lint, types, unit, namespaces
	@$(SUDO) $(BIN)/python -m pytest -m "not image and not browser and not slow and not firmware" $(PYTEST_ARGS)

.PHONY: bench
# A whole bench ends with a soak of ten minutes; a part of it with none, unless asked for.
bench: setup ## Isthmus beside its rivals (ROUNDS=5 TESTS=… CONTENDERS=… SOAK=seconds): a table, build/bench.json
	$(SUDO) image/setup.sh haproxy nginx-light libnginx-mod-stream squid tinyproxy dante-server tayga dnsperf libssl-dev
	$(SUDO) env ROUNDS="$(or $(ROUNDS),5)" TESTS="$(TESTS)" CONTENDERS="$(CONTENDERS)" SOAK="$(or $(SOAK),$(if $(TESTS)$(CONTENDERS),0,600))" \
	  $(BIN)/python -m tests.bench

.PHONY: fuzz
fuzz: setup ## fuzz the parsers, each for TIME=600 seconds (TARGETS="heads responses chunked socks hellos links")
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[fuzz]'
	@for target in $(or $(TARGETS),heads responses chunked socks hellos links); do \
	  echo "==> $$target"; $(BIN)/python -m tests.fuzz $$target $(or $(TIME),600); done

.PHONY: docs
docs: setup ## docs/configuration.md, from the schema
	@$(BIN)/python -m appliance.config.document > build/configuration.md
	@mv build/configuration.md docs/configuration.md

.PHONY: image
image: setup build/isthmus.raw ## the appliance's image: build/isthmus.raw, and compressed with a checksum (FIRST_SETTINGS=1)

build/isthmus.raw: $(SOURCES) | setup
	@$(SUDO) MIRROR="$(MIRROR)" SECURITY_MIRROR="$(SECURITY_MIRROR)" FIRST_SETTINGS="$(FIRST_SETTINGS)" image/build.sh

.PHONY: keys
keys: ## the owner's signing keys, once: build/keys (never committed; keep them)
	@$(SUDO) image/keys.sh

.PHONY: update
update: image ## a signed update: build/isthmus-VERSION.update (LEAST=version that it updates from)
	@version=$$(cat build/boot/version); $(SUDO) env PYTHONPATH=. $(BIN)/python image/bundle.py \
	  build/isthmus.raw build/boot/kernel.efi "$$version" build/keys/update.key \
	  "build/isthmus-$$version.update" $(LEAST)

.PHONY: flash
flash: ## write the image to a disk: make flash DISK=/dev/… (asks first)
	@$(SUDO) image/flash.sh "$(DISK)"

.PHONY: setup
setup: $(STAMPS)/packages $(STAMPS)/venv $(STAMPS)/engine ## install what the rest needs, and compile the engine

$(STAMPS)/packages: image/setup.sh
	@$(SUDO) image/setup.sh
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/venv: pyproject.toml constraints.txt $(STAMPS)/packages
	@echo "==> virtual environment: $(VENV)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/engine: image/build_engine.py $(ENGINE) $(STAMPS)/venv
	@echo "==> the engine, compiled: appliance/_compiled"
	@$(BIN)/python image/build_engine.py . appliance/_compiled
	@touch $@

.PHONY: clean
clean: ## remove what was built; the signing keys and the virtual environment stay
	$(SUDO) find build -mindepth 1 -maxdepth 1 -not -name keys -exec rm -rf {} +
