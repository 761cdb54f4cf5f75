# Verbs only; CMake and Ninja do the work.  Each configuration has its own build folder.
BUILD ?= build
CMAKE_FLAGS ?=
JOBS ?= 2

.PHONY: all deps demo check asan tsan bench fuzz fmt lint install clean
all: $(BUILD)/build.ninja
	@ninja -C $(BUILD) --quiet

$(BUILD)/build.ninja:
	@tools/deps.sh --if-missing
	@cmake -S . -B $(BUILD) -G Ninja $(CMAKE_FLAGS) > $(BUILD).log 2>&1 || { cat $(BUILD).log; exit 1; }
	@mv $(BUILD).log $(BUILD)/configure.log

deps:            ## install what building and testing need (apt-get, Debian 12)
	@tools/deps.sh

check: all       ## every test
	@ctest --test-dir $(BUILD) --output-on-failure -j $(JOBS)

asan:            ## every test under the address and undefined-behaviour sanitizers
	@$(MAKE) --no-print-directory check BUILD=build-asan CMAKE_FLAGS="-DCMAKE_BUILD_TYPE=RelWithDebInfo -DOASIS_SANITIZE=address,undefined"

tsan:            ## every test under the thread sanitizer
	@$(MAKE) --no-print-directory check BUILD=build-tsan CMAKE_FLAGS="-DCMAKE_BUILD_TYPE=RelWithDebInfo -DOASIS_SANITIZE=thread"

fmt:             ## format all C sources
	@git ls-files '*.c' '*.h' | xargs clang-format -i

install: all
	@DESTDIR=$(DESTDIR) cmake --install $(BUILD)

clean:
	@rm -rf build build-*
