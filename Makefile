# `make demo` and `make test` do everything on a fresh machine: environment, packages, work.
# `make study DATA=FOLDER` needs cifar10_jpg_train.tar.xz in the folder.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
FOOLBOX := foolbox==3.3.4  # 20 labelled photographs; its own dependencies are not needed
WORKERS ?= 2
DATA ?= data
NARROW ?= x86-64-v3
NATIVE_TESTS := $(addprefix tests/, \
	artifact/test_random_outputs.py artifact/test_recheck.py backends/test_executables.py \
	benchmarks/test_gmpq_tool.py \
	cli/test_board.py cli/test_processes.py cli/test_targets.py compile/test_network.py \
	qat/test_emit.py runtime/test_loading.py runtime/test_network.py \
	$(addprefix backends/tvm/, \
		codegen/test_c_program.py codegen/test_elf.py codegen/test_library.py \
		codegen/test_processes.py codegen/test_static.py \
		codegen/test_toolchain.py codegen/test_two_networks.py kernels/cpu/depthwise/test_depthwise.py \
		kernels/cpu/depthwise/test_x86_bytes.py kernels/cpu/elementwise/test_reals.py \
		kernels/cpu/epilogue/test_epilogue.py kernels/cpu/epilogue/test_narrowing.py \
		kernels/cpu/epilogue/test_requantized_copy.py kernels/cpu/epilogue/test_residual.py \
		kernels/cpu/winograd/test_winograd.py plan/test_fusion.py plan/test_row_blocks.py \
		target/test_cpu.py \
		target/test_llvm.py test_random_programs.py tuning/test_boards.py tuning/test_tune.py))
ARM_PACKAGES := qemu-user libc6-arm64-cross libc6-armhf-cross libstdc++6-arm64-cross
FASHION := out/fashion/usr/share/datasets/fashion-mnist

.PHONY: demo test test-narrow arm-tools test-arm check bench study clean

demo: $(READY)
	$(BIN)/python examples/demo.py --out out

test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(WORKERS)  # workers are the threads

# What is compiled for this machine again, as on one with AVX2 alone.
test-narrow: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(WORKERS) --native $(NARROW) $(NATIVE_TESTS)

arm-tools: $(READY)  # Debian's packages, as root, and what they need to run onnxruntime for ARM
	for tool in $(ARM_PACKAGES); do dpkg -s $$tool > /dev/null 2>&1 || missing=1; done; \
	[ -z "$$missing" ] || { apt-get update && apt-get install --yes --no-install-recommends $(ARM_PACKAGES); }
	PYTHON=$(BIN)/python tests/arm64/install.sh out/arm64

test-arm: arm-tools  # the first time it builds the board server, which takes minutes
	GMPQ_WHEELS=out/arm64/tvm OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(WORKERS) -m arm

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	MYPYPATH=.:benchmarks $(BIN)/mypy --explicit-package-bases benchmarks

bench: $(READY)
	$(BIN)/python -m pip install --constraint constraints.txt --editable '.[bench]'
	$(BIN)/python benchmarks/baselines.py --tune quick --cache out/baselines --json out/baselines.json --docs docs/benchmarks.md
	$(BIN)/python benchmarks/baselines.py --correlation --tune quick --cache out/baselines --networks resnet18,resnet50 --threads 1 --json out/bops.json --docs docs/benchmarks.md --plot docs/bops.svg

study: $(READY) $(FASHION)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/study.py --cifar $(DATA) --fashion $(FASHION) --docs docs/study.md --plot docs/study.svg

$(FASHION):  # a package of Debian, unpacked without installing it
	mkdir -p out/fashion
	cd out/fashion && apt-get download dataset-fashion-mnist && dpkg-deb -x dataset-fashion-mnist_*.deb .

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "gmpq needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --constraint constraints.txt --editable '.[demo,dev,cross,plot,rpc,cuda]'
	$(BIN)/python -m pip install --no-deps $(FOOLBOX)
	touch $@

clean:
	rm -rf $(VENV) out
