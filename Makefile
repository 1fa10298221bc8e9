# make run                                       segment a sample brain image and write a report
# make run IMAGE=... MODEL=... ROI=R,A,S,X,Y,Z   segment an image of yours (ROI: center and size in mm; optional)
# make desktop [IMAGE=...]                       the module in a stand-in for Slicer's window
# make test                                      lint and test
# make screenshots                               the pictures of README, taken anew
# Everything is installed into .venv, once; remove that folder to start over.

SHELL := /bin/bash
PYTHON ?= python3
# Installed first and as a build for the CPU: left to its own devices, pip would fetch gigabytes for graphics cards.
# `make TORCH=torch` (or any other arguments of pip) chooses another build.
TORCH ?= torch==2.13.0 --extra-index-url https://download.pytorch.org/whl/cpu --retries 1

VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/stamps
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# Off-screen rendering of the pictures in a report.
DEBIAN_PACKAGES := libegl1 libgl1-mesa-dri
# What Qt needs besides (shared-mime-info brings GLib, whose own package has a name that changes), and what it needs of X.
test lint desktop screenshots: DEBIAN_PACKAGES += libgl1 libxkbcommon0 libfontconfig1 libdbus-1-3 shared-mime-info fonts-dejavu-core
desktop: DEBIAN_PACKAGES += libxkbcommon-x11-0 libxcb-cursor0 libxcb-icccm4 libxcb-image0 libxcb-keysyms1 \
  libxcb-render-util0 libxcb-shape0

SAMPLE_IMAGE := mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz
ifndef IMAGE
ROI ?= -27,-22,-14,48,64,48
SAMPLE_STAMP := $(STAMPS)/sample-image
endif
MODEL ?= ssn-hippocampus-mr
SAMPLES ?= 16
OUTPUT ?= output
# Recipes read these from the environment, where spaces and quotes in a path do no harm.
export IMAGE MODEL ROI SAMPLES OUTPUT SAMPLE_IMAGE

.PHONY: run desktop screenshots test lint system-packages cmake-lists

run: $(STAMPS)/run $(SAMPLE_STAMP)
	@set -e; \
	image="$${IMAGE:-$$($(BIN)/python -c 'import os; from importlib.metadata import files; \
	  print(next(f.locate() for f in files("nilearn") if f.name == os.environ["SAMPLE_IMAGE"]))')}"; \
	$(BIN)/medseg-uncertainty segment "$$image" --model "$$MODEL" $${ROI:+"--roi=$$ROI"} \
	  --samples "$$SAMPLES" --seed 0 --output "$$OUTPUT"; \
	for file in "$$OUTPUT"/*.html; do [ -e "$$file" ] && echo "Report: $$file"; done; \
	for file in "$$OUTPUT"/*.mrb "$$OUTPUT"/*.mrml; do [ -e "$$file" ] && echo "Scene:  $$file"; done; true

screenshots: $(STAMPS)/test $(STAMPS)/sample-image
	QT_QPA_PLATFORM=offscreen PYTHONPATH=Testing OMP_NUM_THREADS=1 $(BIN)/python scripts/make_screenshots.py

# A volume is made on the fly when no image is given.
desktop: $(STAMPS)/test
	PYTHONPATH=Testing $(BIN)/python -m slicer_stand_in $${IMAGE:+"$$IMAGE"}

# Each worker gets one thread; more would fight over the cores.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

lint: $(STAMPS)/test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

cmake-lists:
	$(PYTHON) scripts/list_packaged_files.py

$(STAMPS)/venv: | system-packages
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV)
	@mkdir -p $(STAMPS)
	@touch $@

$(STAMPS)/torch: $(STAMPS)/venv
	$(PIP) $(TORCH)
	@touch $@

$(STAMPS)/run: $(STAMPS)/torch pyproject.toml
	$(PIP) --editable '.[scene]'
	@touch $@

$(STAMPS)/test: $(STAMPS)/torch pyproject.toml
	$(PIP) --editable '.[scene,train,test]'
	@touch $@ $(STAMPS)/run

# The wheel carries a free brain image; the rest of nilearn is not used, so its requirements are left out.
$(STAMPS)/sample-image: $(STAMPS)/venv
	$(PIP) --no-deps nilearn==0.14.1
	@touch $@

# Installs what is missing where that needs no password; says what is missing elsewhere. Never stops the build.
system-packages:
	@command -v dpkg-query >/dev/null || exit 0; \
	missing=; \
	for package in $(DEBIAN_PACKAGES); do \
	  dpkg-query --show --showformat='$${db:Status-Status}' $$package 2>/dev/null | grep -qx installed || missing+=" $$package"; \
	done; \
	$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || missing+=" python3-venv"; \
	[ -n "$$missing" ] || exit 0; \
	if [ "$$(id -u)" = 0 ]; then as_root=; \
	elif sudo -n true 2>/dev/null; then as_root='sudo -n'; \
	else echo "Missing Debian packages:$$missing. Install them for pictures in the report and for the window."; exit 0; fi; \
	echo "Installing Debian packages:$$missing"; \
	$$as_root apt-get update -qq && \
	  $$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null || \
	  echo "Could not install the Debian packages$$missing; going on without them."
