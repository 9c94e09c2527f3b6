# Sluice. `make help` lists the targets.
#
# Sources are found by folder: a new .c file in core, kernels, pager or offload belongs to the library, in offload/cli to the program,
# tests/test_*.c, tests/fuzz/fuzz_*.c, tests/example/*.c and bench/bench_*.c are programs of their own. Everything that is built lies below
# $(BUILD), so that builds with other flags live side by side: make BUILD=build/debug OPT=-O0. CC, CPPFLAGS, CFLAGS and LDFLAGS are honoured.

CC      ?= cc
BUILD   ?= build
OPT     ?= -O2
CFLAGS  ?= -g
PREFIX  ?= /usr/local
BINDIR  ?= $(PREFIX)/bin
LIBDIR  ?= $(PREFIX)/lib
INCDIR  ?= $(PREFIX)/include
MANDIR  ?= $(PREFIX)/share/man
COMPDIR ?= $(PREFIX)/share/bash-completion/completions
ZSHDIR  ?= $(PREFIX)/share/zsh/site-functions

# The version has one home, the public header. SOVERSION changes when a program built against the old library would break.
VERSION   := $(or $(shell sed -n 's/^\#define SLUICE_VERSION "\(.*\)".*/\1/p' offload/sluice.h 2>/dev/null),0.1.0)
SOVERSION := 0

WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wvla -Werror=implicit-function-declaration
ifdef WERROR
WARN += -Werror
endif
# No contraction: a * b + c may only be fused where the source says fma, else two compilers give two results.
# The prefix map keeps the build's folder out of what is built, so that equal sources give equal bytes.
LANGUAGE   = -std=gnu17 -D_GNU_SOURCE -I. -ffp-contract=off -fno-strict-aliasing -pthread
ALLCFLAGS  = $(LANGUAGE) $(OPT) $(CPPFLAGS) $(CFLAGS) $(WARN) -fPIC -ffile-prefix-map=$(CURDIR)=. $(SANITIZE)
LDLIBS     = -luring -lhwloc -lpcre2-8 -lxxhash -pthread -ldl -lm
CLI_LIBS   = -ljansson -ledit
LINK       = $(CC) $(OPT) $(CFLAGS) $(SANITIZE) $(LDFLAGS) -pthread

LIB_SRC     := $(wildcard core/*.c kernels/*.c kernels/ref/*.c kernels/cpu/*.c pager/*.c offload/*.c offload/tools/*.c offload/calibrate/*.c offload/prune/*.c)
CLI_SRC     := $(wildcard offload/cli/*.c)
TEST_SRC    := $(wildcard tests/test_*.c)
FUZZ_SRC    := $(wildcard tests/fuzz/fuzz_*.c)
EXAMPLE_SRC := $(wildcard tests/example/*.c)
BENCH_SRC   := $(wildcard bench/bench_*.c)
ALL_SRC     := $(LIB_SRC) $(CLI_SRC) $(TEST_SRC) $(FUZZ_SRC) $(EXAMPLE_SRC) $(BENCH_SRC)

LIB_OBJ  := $(LIB_SRC:%.c=$(BUILD)/%.o)
CLI_OBJ  := $(CLI_SRC:%.c=$(BUILD)/%.o)
MAIN_OBJ := $(BUILD)/offload/cli/main.o
TESTS    := $(TEST_SRC:%.c=$(BUILD)/%) $(BUILD)/tests/test_emulator
FUZZERS  := $(FUZZ_SRC:%.c=$(BUILD)/%)
EXAMPLES := $(EXAMPLE_SRC:%.c=$(BUILD)/%)
BENCHES  := $(BENCH_SRC:%.c=$(BUILD)/%)
LIB      := $(BUILD)/libsluice.a
# What the program consists of besides main(), so that tests and fuzzers reach its parsers.
CLI_LIB  := $(BUILD)/libsluice-cli.a
DSO      := $(BUILD)/libsluice.so.$(VERSION)

# The plug-ins for devices. The CUDA one is built where nvcc is found, for one architecture, whose code newer devices' drivers recompile; the emulated
# one is for tests: the same kernels, compiled by $(CXX).
NVCC         ?= $(firstword $(shell command -v nvcc 2>/dev/null) $(wildcard /usr/local/cuda/bin/nvcc))
CUDA_ARCH    ?= sm_75
CUDA_CODE     = $(if $(filter release,$(CUDA_ARCH)),$(RELEASE_CODE),-arch=$(CUDA_ARCH))
RELEASE_CODE := $(foreach a,75 80 86 89 90,-gencode arch=compute_$(a),code=sm_$(a)) -gencode arch=compute_90,code=compute_90
CUDA_SRC     := $(filter-out kernels/cuda/runtime_cuda.cu,$(wildcard kernels/cuda/*.cu))
EMULATOR_SRC := $(wildcard kernels/cuda/*.cpp)
CUDA_OBJ     := $(patsubst %.cu,$(BUILD)/cuda/%.o,$(CUDA_SRC) kernels/cuda/runtime_cuda.cu)
EMULATED_OBJ := $(CUDA_SRC:%.cu=$(BUILD)/emulated/%.o) $(EMULATOR_SRC:%.cpp=$(BUILD)/emulated/%.o)
CUDA_DSO     := $(BUILD)/libsluice-cuda.so
EMULATED_DSO := $(BUILD)/libsluice-emulated.so
# What they share with the program: how an error is said, and the formats' table.
PLUGIN_OBJ   := $(BUILD)/core/status.o $(BUILD)/core/format.o $(BUILD)/core/size.o

# V=1 shows the commands.
say = @$(if $(V),set -x,printf '  %-4s %s\n' '$(1)' '$(patsubst $(CURDIR)/%,%,$(2))');

# Sub-makes build with all cores unless the caller said how many.
JOBS = $(if $(filter -j% --jobserver%,$(MAKEFLAGS)),,-j$(shell nproc))
SUBMAKE = $(MAKE) --no-print-directory $(JOBS)

all: sluice $(if $(NVCC),$(CUDA_DSO)) ## build ./sluice, and where nvcc is its CUDA plug-in (the default)

sluice: $(BUILD)/sluice FORCE ## the program
	@cmp -s $< $@ || { cp -f $< $@.new && mv -f $@.new $@; }

lib: $(LIB) $(DSO) $(BUILD)/include/sluice.h $(BUILD)/sluice.pc ## libsluice, static and shared, and its one header

tests: $(TESTS) $(EMULATED_DSO) ## build the test programs

bench: $(BENCHES) ## build the benchmark programs (see bench/)

example: $(EXAMPLES) ## build the example programs that use the library

# --- compiling -----------------------------------------------------------------------------------------------------------------------

# One source per instruction set: the file's name ends in what it may use, and only the chosen one runs on a machine. Files of another
# architecture's sets compile to nothing.
ifneq ($(filter aarch64%,$(shell $(CC) -dumpmachine 2>/dev/null)),)
ISA_dotprod := -march=armv8.2-a+dotprod
else
ISA_avx2   := -mavx2 -mfma -mf16c -mbmi2
ISA_avx512 := -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni $(ISA_avx2) -mprefer-vector-width=512
ISA_amx    := $(ISA_avx512) -mamx-tile -mamx-int8
endif
EXAMPLE_FLAGS = $(filter-out -I.,$(ALLCFLAGS)) -I$(BUILD)/include
isa_of      = $(ISA_$(lastword $(subst _, ,$(basename $(notdir $(1))))))
# What --version says; of paths in flags nothing, so that equal sources give equal bytes.
OPTIONS_SAID = $(filter-out -I% -ffile-prefix-map=%,$(OPT) $(CPPFLAGS) $(CFLAGS) $(SANITIZE))
$(MAIN_OBJ): OPTIONS_GIVEN = -DSLUICE_BUILD_OPTIONS='"$(subst ",,$(subst ','',$(OPTIONS_SAID)))"'
# Fuzzers look for what a file can do to what reads it. The fast kernels read none, and clang takes minutes to instrument them.
plain_of    = $(if $(FUZZING),$(if $(filter kernels/cpu/%,$(1)),-fno-sanitize=all))
compile_of  = $(if $(filter tests/example/%,$(1)),$(EXAMPLE_FLAGS),$(ALLCFLAGS) $(call isa_of,$(1)) $(call plain_of,$(1)))

# Rebuilds all when the compiler or its flags change.
export SLUICE_FLAGS := $(CC) $(ALLCFLAGS) $(ISA_avx512) $(ISA_dotprod)
$(BUILD)/flags: FORCE
	@mkdir -p $(@D)
	@echo "$$SLUICE_FLAGS" | cmp -s - $@ || echo "$$SLUICE_FLAGS" > $@

# Missing libraries are named once, with their package, before a compiler says it less clearly. HEADER:PACKAGE.
LIB_NEEDS  := liburing.h:liburing-dev hwloc.h:libhwloc-dev pcre2.h:libpcre2-dev xxhash.h:libxxhash-dev jansson.h:libjansson-dev histedit.h:libedit-dev \
    libsvm/svm.h:libsvm-dev
TEST_NEEDS := cmocka.h:libcmocka-dev
define check_needs
	@command -v $(firstword $(CC)) >/dev/null || { echo "sluice: no compiler $(firstword $(CC)), install the package: gcc (or run: make setup)" >&2; exit 1; }
	@mkdir -p $(@D); missing=; for need in $(1); do \
	    printf '#include <setjmp.h>\n#include <stdarg.h>\n#include <stddef.h>\n#include <stdint.h>\n#define PCRE2_CODE_UNIT_WIDTH 8\n#include <%s>\n' "$${need%%:*}" \
	        | $(CC) $(CPPFLAGS) $(CFLAGS) -x c -E - >/dev/null 2>&1 || missing="$$missing $${need##*:}"; \
	done; \
	if [ -n "$$missing" ]; then echo "sluice: libraries are missing, install the packages:$$missing (or run: make setup)" >&2; exit 1; fi; \
	touch $@
endef
$(BUILD)/.needs-lib:
	$(call check_needs,$(LIB_NEEDS))
$(BUILD)/.needs-test:
	$(call check_needs,$(TEST_NEEDS))

$(BUILD)/%.o: %.c $(BUILD)/flags | $(BUILD)/.needs-lib
	@mkdir -p $(@D)
	$(call say,CC,$<) $(CC) $(call compile_of,$<) $(OPTIONS_GIVEN) -MMD -MP -c -o $@ $<
$(BUILD)/tests/%.o $(BUILD)/tests/fuzz/%.o: | $(BUILD)/.needs-test

$(LIB): $(LIB_OBJ)
	$(call say,AR,$@) rm -f $@; $(AR) rcsD $@ $^
$(CLI_LIB): $(filter-out $(MAIN_OBJ),$(CLI_OBJ))
	$(call say,AR,$@) rm -f $@; $(AR) rcsD $@ $^
$(BUILD)/sluice: $(CLI_OBJ) $(LIB)
	$(call say,LINK,$@) $(LINK) -o $@ $^ $(CLI_LIBS) $(LDLIBS)
# A test that stands between us and the system says so in a line of its own: /* link: -Wl,--wrap=malloc */
link_of = $(shell sed -n 's|^/\* link: \(.*\) \*/$$|\1|p' $(1))
$(BUILD)/tests/test_%: $(BUILD)/tests/test_%.o $(CLI_LIB) $(LIB)
	$(call say,LINK,$@) $(LINK) $(call link_of,tests/$(@F).c) -o $@ $^ -lcmocka $(CLI_LIBS) $(LDLIBS)
$(BUILD)/tests/fuzz/%: $(BUILD)/tests/fuzz/%.o $(CLI_LIB) $(LIB)
	$(call say,LINK,$@) $(LINK) -fsanitize=fuzzer -o $@ $^ $(CLI_LIBS) $(LDLIBS)
$(filter $(BUILD)/tests/test_device% $(BUILD)/tests/test_vram,$(TESTS)): | $(EMULATED_DSO)
$(BUILD)/tests/test_emulator: $(BUILD)/emulated/tests/test_emulator.o $(BUILD)/emulated/kernels/cuda/emulate.o $(PLUGIN_OBJ)
	@mkdir -p $(@D)
	$(call say,LINK,$@) $(CXX) $(OPT) $(CFLAGS) $(SANITIZE) $(LDFLAGS) -o $@ $^ -lcmocka -pthread
$(BUILD)/bench/%: $(BUILD)/bench/%.o $(CLI_LIB) $(LIB)
	$(call say,LINK,$@) $(LINK) -o $@ $^ $(CLI_LIBS) $(LDLIBS)

# --- plug-ins --------------------------------------------------------------------------------------------------------------------------

CXX_WARN   = $(filter-out -Wstrict-prototypes -Wmissing-prototypes -Werror=implicit-function-declaration,$(WARN)) -Wno-unknown-pragmas
CXX_FLAGS  = $(subst -std=gnu17,-std=gnu++17,$(LANGUAGE)) $(OPT) $(CPPFLAGS) $(CFLAGS) $(CXX_WARN) -fPIC -fvisibility=hidden -DSL_EMULATED \
    -ffile-prefix-map=$(CURDIR)=. $(SANITIZE)
NVCC_FLAGS = -std=c++17 -O3 -I. $(CUDA_CODE) -fmad=false $(if $(WERROR),-Werror all-warnings) \
    -Xcompiler "-fPIC -fvisibility=hidden -ffp-contract=off -fno-strict-aliasing -Wall -Wextra"
$(BUILD)/emulated/%.o: %.cu $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,CXX,$<) $(CXX) $(CXX_FLAGS) -MMD -MP -c -x c++ -o $@ $<
$(BUILD)/emulated/%.o: %.cpp $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,CXX,$<) $(CXX) $(CXX_FLAGS) -MMD -MP -c -o $@ $<
$(BUILD)/cuda/%.o: %.cu $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,NVCC,$<) $(NVCC) $(NVCC_FLAGS) -MMD -MP -c -o $@ $<
$(EMULATED_DSO): $(EMULATED_OBJ) $(PLUGIN_OBJ) kernels/cuda/plugin.map
	$(call say,LINK,$@) $(CXX) $(OPT) $(CFLAGS) $(SANITIZE) $(LDFLAGS) -shared -Wl,-Bsymbolic,--version-script=kernels/cuda/plugin.map \
	    $(if $(SANITIZE),,-Wl$(comma)-z$(comma)defs) -o $@ $(filter %.o,$^) -pthread
# CUDA's runtime goes in; the driver's library it opens itself.
$(CUDA_DSO): $(CUDA_OBJ) $(PLUGIN_OBJ) kernels/cuda/plugin.map
	$(call say,LINK,$@) $(NVCC) $(CUDA_CODE) -shared -cudart static -Xlinker -Bsymbolic,-z,defs,--version-script=kernels/cuda/plugin.map \
	    -Xcompiler -static-libstdc++,-static-libgcc -o $@ $(filter %.o,$^)

# The example is what a user writes: it sees the one installed header and nothing else of ours.
$(BUILD)/tests/example/%: tests/example/%.c $(BUILD)/include/sluice.h $(LIB)
	@mkdir -p $(@D)
	$(call say,CC,$<) $(CC) $(call compile_of,$<) $(LDFLAGS) -o $@ $< $(LIB) $(LDLIBS)

# --- the library as it is installed ----------------------------------------------------------------------------------------------------

$(BUILD)/include/sluice.h: offload/sluice.h $(wildcard core/*.h) scripts/public-header
	@mkdir -p $(@D)
	$(call say,GEN,$@) scripts/public-header offload/sluice.h $@
# What the header declares is exported, all else stays inside.
$(BUILD)/libsluice.map: $(BUILD)/include/sluice.h scripts/public-header
	$(call say,GEN,$@) scripts/public-header --exports $< SLUICE_$(SOVERSION) $@
$(DSO): $(LIB_OBJ) $(BUILD)/libsluice.map
	$(call say,LINK,$@) $(LINK) -shared -Wl,-soname,libsluice.so.$(SOVERSION) -Wl,--version-script=$(BUILD)/libsluice.map -Wl,-z,defs -o $@ $(LIB_OBJ) $(LDLIBS)
	@ln -sf $(@F) $(BUILD)/libsluice.so.$(SOVERSION) && ln -sf $(@F) $(BUILD)/libsluice.so
$(BUILD)/sluice.pc: Makefile offload/sluice.h
	@mkdir -p $(@D)
	@printf '%s\n' 'prefix=$(PREFIX)' 'libdir=$(LIBDIR)' 'includedir=$(INCDIR)' '' 'Name: sluice' \
	    'Description: runs language models larger than the memory they are given' 'Version: $(VERSION)' 'Cflags: -I$${includedir}' \
	    'Libs: -L$${libdir} -lsluice' 'Requires.private: liburing hwloc libpcre2-8 libxxhash' 'Libs.private: -pthread -ldl -lm' > $@

$(BUILD)/sluice.1: $(BUILD)/sluice
	$(call say,GEN,$@) $< --man > $@
$(BUILD)/sluice.bash: $(BUILD)/sluice
	$(call say,GEN,$@) $< --completion bash > $@
$(BUILD)/sluice.zsh: $(BUILD)/sluice
	$(call say,GEN,$@) $< --completion zsh > $@
man: $(BUILD)/sluice.1 $(BUILD)/sluice.bash $(BUILD)/sluice.zsh ## the man page and the shells' completions, from the program itself

INSTALLED = $(BINDIR)/sluice $(INCDIR)/sluice.h $(LIBDIR)/libsluice.a $(LIBDIR)/libsluice.so.$(VERSION) $(LIBDIR)/libsluice.so.$(SOVERSION) \
    $(LIBDIR)/libsluice.so $(LIBDIR)/pkgconfig/sluice.pc $(MANDIR)/man1/sluice.1 $(COMPDIR)/sluice $(ZSHDIR)/_sluice
install: $(BUILD)/sluice $(if $(NVCC),$(CUDA_DSO)) lib man ## install below $(DESTDIR)$(PREFIX)
	install -d $(sort $(dir $(INSTALLED:%=$(DESTDIR)%)))
	install -m 755 $(BUILD)/sluice $(DESTDIR)$(BINDIR)/sluice
	install -m 644 $(BUILD)/include/sluice.h $(DESTDIR)$(INCDIR)/sluice.h
	install -m 644 $(LIB) $(DESTDIR)$(LIBDIR)/libsluice.a
	install -m 755 $(DSO) $(DESTDIR)$(LIBDIR)/libsluice.so.$(VERSION)
	ln -sf libsluice.so.$(VERSION) $(DESTDIR)$(LIBDIR)/libsluice.so.$(SOVERSION)
	ln -sf libsluice.so.$(SOVERSION) $(DESTDIR)$(LIBDIR)/libsluice.so
	sed -e 's|^prefix=.*|prefix=$(PREFIX)|' -e 's|^libdir=.*|libdir=$(LIBDIR)|' -e 's|^includedir=.*|includedir=$(INCDIR)|' \
	    $(BUILD)/sluice.pc > $(DESTDIR)$(LIBDIR)/pkgconfig/sluice.pc
	chmod 644 $(DESTDIR)$(LIBDIR)/pkgconfig/sluice.pc
	$(if $(NVCC),install -m 755 $(CUDA_DSO) $(DESTDIR)$(LIBDIR)/$(notdir $(CUDA_DSO)))
	install -m 644 $(BUILD)/sluice.1 $(DESTDIR)$(MANDIR)/man1/sluice.1
	install -m 644 $(BUILD)/sluice.bash $(DESTDIR)$(COMPDIR)/sluice
	install -m 644 $(BUILD)/sluice.zsh $(DESTDIR)$(ZSHDIR)/_sluice

uninstall: ## remove what install put there
	rm -f $(INSTALLED:%=$(DESTDIR)%) $(DESTDIR)$(LIBDIR)/$(notdir $(CUDA_DSO))

# --- the two commands of the README ----------------------------------------------------------------------------------------------------

demo: ## set up, build, fetch a model and answer a prompt in less memory than the model's file (MODEL=gemma3, or a path: another one)
	@scripts/setup build
	@$(SUBMAKE) sluice
	@if scripts/fetch-model --knows "$(MODEL)"; then scripts/fetch-model $(MODEL) && scripts/demo "$$(scripts/fetch-model --path $(MODEL))"; \
	else scripts/demo "$(MODEL)"; fi

TEST_MODELS = --model "$$(scripts/fetch-model --path)" --model-gemma "$$(scripts/fetch-model --path gemma3)"
test: ## set up, build, fetch the test models, run all tests
	@scripts/setup test
	@$(SUBMAKE) sluice tests example lib
	@scripts/fetch-model
	@scripts/fetch-model gemma3 || echo "tests of Gemma will be skipped"
	@scripts/run-tests --build $(BUILD) $(TEST_MODELS)

# --- for those who change it -----------------------------------------------------------------------------------------------------------

setup: ## install the packages that a build and its tests need, where they are missing
	@scripts/setup test

check: ## build and run all tests without set-up or network; the model's are skipped when it has not been fetched
	@$(SUBMAKE) sluice tests example lib
	@scripts/run-tests --build $(BUILD) $(TEST_MODELS)

# A sanitizer build computes on tiny models only: it is there for memory and threads, not for figures, so two programs may run at a time.
ASAN := -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
TSAN := -fsanitize=thread -fno-omit-frame-pointer
TSAN_TESTS := $(filter test_pager test_tiers test_threads test_unit,$(notdir $(TESTS)))
asan: ## the tests under the address and undefined-behaviour sanitizers
	@$(SUBMAKE) BUILD=$(BUILD)/asan OPT=-O1 SANITIZE="$(ASAN)" $(BUILD)/asan/sluice tests
	@scripts/run-tests --build $(BUILD)/asan --jobs 2
tsan: ## the pager's and the threads' tests under the thread sanitizer
	@$(SUBMAKE) BUILD=$(BUILD)/tsan OPT=-O1 SANITIZE="$(TSAN)" $(TSAN_TESTS:%=$(BUILD)/tsan/tests/%)
	@scripts/run-tests --build $(BUILD)/tsan $(TSAN_TESTS)
sanitize: ## asan, then tsan, both in any case
	@asan=0; $(MAKE) --no-print-directory asan || asan=1; $(MAKE) --no-print-directory tsan && exit $$asan

# 64-bit ARM from another machine: cross-compiled, and tested in an emulator, which knows no io_uring, whose own memory counts as the program's
# and grows, and whose speed means nothing. So tests stay out that open many engines in a budget or take long; cli_exact has one engine a process.
ARM64_SYSROOT = $(BUILD)/arm64-sysroot
ARM64 = BUILD=$(BUILD)/arm64 CC="aarch64-linux-gnu-gcc --sysroot=$(abspath $(ARM64_SYSROOT))" AR=aarch64-linux-gnu-ar
ARM64_LEFT_OUT := test_bundled test_calibrate test_early_exit test_engine test_faults test_generate test_kv_spill test_kv_window test_plan \
    test_price test_prune test_prune_methods test_refusals test_resident test_session_file test_sirius test_sirius_tree test_tiers test_tree
# The device is a plug-in in C++, whose compiler is not asked for here.
ARM64_TESTS := $(filter-out $(ARM64_LEFT_OUT) test_device% test_emulator test_vram,$(notdir $(TESTS)))
arm64: ## cross-compile for 64-bit ARM, into build/arm64
	@scripts/setup-arm64 $(ARM64_SYSROOT)
	@$(SUBMAKE) $(ARM64) $(BUILD)/arm64/sluice
test-arm64: arm64 ## the tests of the kernels for 64-bit ARM, and those of the rest that are quick, under qemu-user
	@$(SUBMAKE) $(ARM64) $(ARM64_TESTS:%=$(BUILD)/arm64/tests/%)
	@scripts/run-tests --build $(BUILD)/arm64 --jobs $(shell nproc) --under "qemu-aarch64 -L $(ARM64_SYSROOT)" $(ARM64_TESTS) cli_exact

fuzzers: $(FUZZERS)
FUZZ_SECONDS ?= 20
# For counts there is a second flavour: the same sanitizers, optimised, and comparisons not traced, which finds less but runs twice as many inputs.
FUZZ_BUILD  = $(BUILD)/fuzz$(if $(FUZZ_QUICK),-quick)
FUZZ_FLAGS  = $(if $(FUZZ_QUICK),-fsanitize-coverage=inline-8bit-counters$(comma)pc-table$(comma)indirect-calls,-fsanitize=fuzzer-no-link)
fuzz: ## each fuzzer for FUZZ_SECONDS (20), or until it has run FUZZ_RUNS inputs, with clang (FUZZ_QUICK=1: twice as many, found less cleverly)
	@$(SUBMAKE) BUILD=$(FUZZ_BUILD) FUZZING=1 CC=clang OPT=$(if $(FUZZ_QUICK),-O2,-O1) SANITIZE="$(ASAN) $(FUZZ_FLAGS)" fuzzers
	@scripts/fuzz --build $(FUZZ_BUILD) $(if $(FUZZ_RUNS),--runs $(FUZZ_RUNS),--seconds $(FUZZ_SECONDS)) $(FUZZ)

lint: $(BUILD)/compile_commands.json $(LIB) $(BUILD)/include/sluice.h ## include direction, library symbols, format, static analysis
	@scripts/lint --build $(BUILD)

format: ## clang-format on all C files
	@scripts/lint --format

# For clang-tidy and for editors.
$(BUILD)/compile_commands.json: $(BUILD)/flags $(ALL_SRC)
	$(file >$@,[)
	$(foreach s,$(ALL_SRC),$(file >>$@,{"directory":"$(CURDIR)"$(comma)"file":"$(s)"$(comma)"command":"$(CC) $(call compile_of,$(s)) -c $(s)"}$(comma)))
	@sed -i '$$ s/,$$/\n]/' $@
comma := ,

FIGURES := speed quality
figures: $(BUILD)/sluice ## the README's pictures, from the measured figures in bench/figures
	@for name in $(FIGURES); do $(BUILD)/sluice report --svg $$name bench/figures/$$name.json -o bench/figures/$$name.svg --force || exit 1; done
# --- where the GPU is and the packages are not ---------------------------------------------------------------------------------------

# A folder of programs that need the C library alone, and a driver; see scripts/gpu-bundle and scripts/gpu-run. A program of tests or benchmarks belongs
# to it when it asks which device to run on (SLUICE_TEST_DEVICE, tests/device_material.h).
BUNDLE       := $(BUILD)/gpu-bundle
BUNDLE_PROGS := $(notdir $(basename $(shell grep -lE 'tests/device_(material|memory)\.h|SLUICE_TEST_DEVICE' tests/test_*.c bench/bench_*.c)))
# Static where there is a static one; what a static library needs in turn is found here, and left out where nothing needs it.
lib_file      = $(findstring /,$(shell $(CC) -print-file-name=lib$(1)))
static_of     = $(foreach l,$(1),$(if $(call lib_file,$(l).a),-l:lib$(l).a,$(if $(call lib_file,$(l).so),-l$(l))))
BUNDLE_LINK   = $(LINK) -static-libgcc -Wl,--as-needed,--disable-new-dtags,-rpath,'$$ORIGIN'
BUNDLE_LIBS   = $(call static_of,jansson edit tinfo bsd md uring hwloc pcre2-8 xxhash cmocka) $(if $(call lib_file,udev.so.1),-l:libudev.so.1) -lpthread -ldl -lm
$(BUNDLE)/sluice: $(CLI_OBJ) $(LIB)
	@mkdir -p $(@D)
	$(call say,LINK,$@) $(BUNDLE_LINK) -o $@ $^ $(BUNDLE_LIBS)
# Each test and benchmark has the whole engine in it, which the bundle has no room for a dozen times: so they are one program, which does what it is called.
BUNDLE_MAINS := $(BUNDLE).mains
$(BUNDLE_MAINS)/test_%.o: $(BUILD)/tests/test_%.o
	@mkdir -p $(@D)
	@objcopy --redefine-sym main=$(*:%=test_%)_main $< $@
$(BUNDLE_MAINS)/bench_%.o: $(BUILD)/bench/bench_%.o
	@mkdir -p $(@D)
	@objcopy --redefine-sym main=$(*:%=bench_%)_main $< $@
$(BUNDLE_MAINS)/main.c: $(BUNDLE_PROGS:%=$(BUNDLE_MAINS)/%.o)
	@scripts/one-program $(BUNDLE_PROGS) >$@
$(BUNDLE)/programs: $(BUNDLE_MAINS)/main.c $(BUNDLE_PROGS:%=$(BUNDLE_MAINS)/%.o) $(CLI_LIB) $(LIB)
	@mkdir -p $(@D)
	$(call say,LINK,$@) $(BUNDLE_LINK) -o $@ $^ $(BUNDLE_LIBS)
$(BUNDLE)/libsluice-emulated.so: $(EMULATED_OBJ) $(PLUGIN_OBJ)
	@mkdir -p $(@D)
	$(call say,LINK,$@) $(CXX) $(OPT) -shared -static-libstdc++ -static-libgcc -Wl,-Bsymbolic,--version-script=kernels/cuda/plugin.map -o $@ $^ -pthread
RELEASE = $(SUBMAKE) BUILD=$(BUILD)/release CUDA_ARCH=release
release: ## build/release: the program, and where nvcc is the CUDA plug-in for all GPUs since compute capability 7.5
	@$(RELEASE) $(BUILD)/release/sluice $(if $(NVCC),$(BUILD)/release/libsluice-cuda.so)
gpu-bundle: ## build/gpu-bundle.tar.gz: what test-gpu and bench-gpu need on a machine with a GPU and none of our packages
	@[ -n "$(NVCC)" ] || { echo "sluice: no nvcc: the CUDA Toolkit is needed" >&2; exit 1; }
	@rm -rf $(BUNDLE)
	@$(SUBMAKE) $(addprefix $(BUNDLE)/,sluice programs libsluice-emulated.so)
	@for name in $(BUNDLE_PROGS); do ln $(BUNDLE)/programs $(BUNDLE)/$$name; done; rm $(BUNDLE)/programs
	@$(RELEASE) $(BUILD)/release/libsluice-cuda.so
	@cp $(BUILD)/release/libsluice-cuda.so $(BUNDLE)/
	@scripts/gpu-bundle $(BUNDLE) $(BUNDLE).tar.gz $(BUNDLE).rest "$$(scripts/fetch-model --path)"
# Runs the bundle that is there, and builds it where there is none.
GPU_RUN = scripts/gpu-run $(1) --bundle $(BUNDLE).tar.gz --rest $(BUNDLE).rest --device $(or $(DEVICE),cuda)
test-gpu: ## the device's tests on this machine's GPU, from the bundle, in under 10 minutes (DEVICE=cuda:1: another)
	@[ -f $(BUNDLE).tar.gz ] || $(SUBMAKE) gpu-bundle
	@$(call GPU_RUN,test)
bench-gpu: ## what its link and its kernels reach, likewise
	@[ -f $(BUNDLE).tar.gz ] || $(SUBMAKE) gpu-bundle
	@$(call GPU_RUN,bench)

clean: ## remove what was built; models stay
	rm -rf $(BUILD) sluice sluice.new

help: ## this list
	@echo "make TARGET, where TARGET is one of"
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  \1\t\2/p' Makefile | expand -t 14

FORCE:
.PHONY: all lib tests bench example man install uninstall demo test setup check asan tsan sanitize arm64 test-arm64 fuzzers fuzz lint format figures release gpu-bundle test-gpu bench-gpu clean help FORCE
.DELETE_ON_ERROR:
.SECONDARY:
-include $(CUDA_OBJ:.o=.d) $(EMULATED_OBJ:.o=.d) $(BUILD)/emulated/tests/test_emulator.d
-include $(patsubst %.c,$(BUILD)/%.d,$(filter-out $(EXAMPLE_SRC),$(ALL_SRC)))
