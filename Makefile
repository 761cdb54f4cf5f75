# Verbs only; CMake and Ninja do the work.  Each configuration has its own build folder.
BUILD ?= build
CMAKE_FLAGS ?=
JOBS ?= $(shell nproc)
SUITE = $(MAKE) --no-print-directory check
DEBUG = -DCMAKE_BUILD_TYPE=RelWithDebInfo

.PHONY: all deps demo check asan cuda-emulated tsan bench fuzz fmt lint install clean
all: $(BUILD)/build.ninja  ## the program, build/oasis, and the libraries
	@ninja -C $(BUILD) -j $(JOBS)

$(BUILD)/build.ninja:
	@tools/deps.sh --if-missing
	@cmake -S . -B $(BUILD) -G Ninja $(CMAKE_FLAGS)

deps:            ## install what building and testing need (apt-get, Debian 12)
	@tools/deps.sh

demo: $(BUILD)/build.ninja  ## upscale the sample clip, and show it beside the input
	@ninja -C $(BUILD) -j $(JOBS) oasis-program side_by_side
	@tools/demo.sh $(BUILD)

check: all       ## every test
	@ctest --test-dir $(BUILD) --output-on-failure --no-tests=error -j $(JOBS)

asan:            ## every test under the address and undefined-behaviour sanitizers
	@$(SUITE) BUILD=build-asan CMAKE_FLAGS="$(DEBUG) -DOASIS_SANITIZE=address,undefined"

cuda-emulated:   ## the GPU's kernels and networks, emulated (needs a C++ compiler)
	@cmake -S . -B build-emulated -G Ninja $(CMAKE_FLAGS) -DOASIS_CUDA=EMULATED
	@ninja -C build-emulated -j $(JOBS)
	@ctest --test-dir build-emulated --output-on-failure --no-tests=error -j $(JOBS) -R '^cuda/|gpu|train/ranks'

tsan:            ## every test under the thread sanitizer
	@$(SUITE) BUILD=build-tsan CMAKE_FLAGS="$(DEBUG) -DOASIS_SANITIZE=thread"

bench: all       ## speed on this machine
	@$(BUILD)/oasis bench

fuzz:            ## run each fuzz target for FUZZ_SECONDS (default 60); needs clang
	@cmake -S . -B build-fuzz -G Ninja $(DEBUG) -DCMAKE_C_COMPILER=clang -DOASIS_FUZZ=ON
	@ninja -C build-fuzz -j $(JOBS)
	@tools/fuzz.sh build-fuzz $(FUZZ_SECONDS)

fmt:             ## format all C sources
	@git ls-files '*.c' '*.h' | xargs clang-format -i

lint: all        ## what compilers do not check: structure, shell scripts, warnings of clang
	@tools/check_structure.sh $(BUILD)
	@git ls-files '*.sh' .ci/run | xargs shellcheck
	@tools/check_clang.sh $(BUILD)

install: all     ## to CMAKE_INSTALL_PREFIX (default /usr/local), below DESTDIR
	@DESTDIR=$(DESTDIR) cmake --install $(BUILD)

clean:           ## remove all build folders
	@rm -rf build build-* demo
