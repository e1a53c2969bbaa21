# Longspan: `make help` lists what there is. Objects go to build/VARIANT, never beside the sources.
VARIANT ?= release
# make CROSS=aarch64-linux-gnu- builds for another kind of machine, into a folder of its own: compiler, ar and, where there is
# one, pkg-config are those of that name. Open MPI's wrapper knows this machine's folders only: its pkg-config file is asked.
CROSS   ?=
BUILD   ?= build/$(CROSS)$(VARIANT)
PREFIX  ?= /usr/local
ifeq ($(CROSS),)
CC      ?= gcc
MPICC   ?= mpicc
PKG_CONFIG ?= pkg-config
else
ifeq ($(origin CC),default)
CC      := $(CROSS)gcc
endif
ifeq ($(origin AR),default)
AR      := $(CROSS)ar
endif
MPICC   ?= $(CC)
MPI_PKGS := ompi-c
PKG_CONFIG ?= $(or $(shell command -v $(CROSS)pkg-config),pkg-config)
endif
ARCH    := $(shell $(CC) -dumpmachine 2>/dev/null | cut -d- -f1)

WARN    := -Wall -Wextra -Wpedantic -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
           -Wpointer-arith -Wvla -Wformat=2 -Wno-format-nonliteral
# No -ffast-math and no implicit contraction: docs/architecture.md, "Same bits".
NUMERIC := -ffp-contract=off -fno-math-errno -fno-trapping-math
OPT     ?= -O3 -g
CFLAGS  += -std=c11 -D_GNU_SOURCE -iquote . -iquote $(BUILD) $(WARN) $(NUMERIC) $(OPT) $(SANITIZE) -pthread -MMD -MP
LDFLAGS += $(SANITIZE) -pthread

# libunistring has no file for pkg-config.
pkg_cflags = $(shell $(PKG_CONFIG) --cflags $(filter-out libunistring,$(1)) 2>/dev/null)
pkg_libs   = $(shell $(PKG_CONFIG) --libs $(filter-out libunistring,$(1)) 2>/dev/null) $(if $(filter libunistring,$(1)),-lunistring)

# ---- folders: what a folder's programs and tests are linked with, and whose headers its sources see -------------------
WIRE_PKGS  := libzmq libprotobuf-c
MODEL_PKGS := libpcre2-8 libunistring jansson
PKGS_sys            := hwloc
PKGS_model          := $(MODEL_PKGS)
PKGS_proto          := $(WIRE_PKGS) jansson
PKGS_plan           := $(MODEL_PKGS)
PKGS_attention_node := $(WIRE_PKGS) hwloc
PKGS_coordinator    := $(WIRE_PKGS) $(MODEL_PKGS) libmicrohttpd
PKGS_worker         := $(WIRE_PKGS) $(MODEL_PKGS) hwloc $(MPI_PKGS)
PKGS_cluster        := $(WIRE_PKGS) $(MODEL_PKGS) libcyaml yaml-0.1 libcurl
PKGS_bench          := $(WIRE_PKGS) $(MODEL_PKGS) hwloc

LIB  := $(BUILD)/lib
libs  = $(patsubst %,$(LIB)/lib%.a,$(1))
LIBS_sys            := $(call libs,sys)
LIBS_model          := $(call libs,model sys)
LIBS_kernels        := $(call libs,kernels sys)
LIBS_proto          := $(call libs,proto sys)
LIBS_plan           := $(call libs,plan model kernels sys)
LIBS_attention_node := $(call libs,attention_node proto kernels sys)
LIBS_coordinator    := $(call libs,coordinator proto plan model kernels sys)
LIBS_worker         := $(call libs,worker proto plan model kernels sys)
LIBS_cluster        := $(call libs,cluster proto plan model kernels sys)
LIBS_bench          := $(call libs,measure coordinator proto plan model kernels sys)

# Of a source, its object and its test: worker, of worker/rank.c and tests/worker/test_rank.c. A worker's compiler knows MPI.
folder = $(firstword $(subst /, ,$(patsubst tests/%,%,$(patsubst $(BUILD)/%,%,$(1)))))
cc_of  = $(if $(filter worker,$(call folder,$(1))),OMPI_CC="$(CC)" $(MPICC),$(CC))

# ---- sources, by folder: a file belongs to the library of its folder, main.c is its program -------
SYS_SRC    := $(wildcard sys/*.c)
MODEL_SRC  := $(wildcard model/*.c model/*/*.c)
KERNEL_SRC := $(wildcard kernels/*.c kernels/*/*.c kernels/*/cuda/*.c)
ifneq ($(ARCH),x86_64)
KERNEL_SRC := $(filter-out %_avx2.c %_avx512.c,$(KERNEL_SRC))
endif
ifneq ($(ARCH),aarch64)
KERNEL_SRC := $(filter-out %_neon.c %_dotprod.c,$(KERNEL_SRC))
endif
# CUDA is built where nvcc is found, in PATH or where NVIDIA installs it; make CUDA=0 leaves it out.
# CUDA_ARCHS: of which GPUs there is machine code: of those in this machine, or of all where it has none.
NVCC       := $(firstword $(shell command -v nvcc 2>/dev/null) $(wildcard /usr/local/cuda/bin/nvcc))
CUDA       ?= $(if $(CROSS),0,$(if $(NVCC),1,0))
ifeq ($(CUDA),0)
KERNEL_SRC := $(filter kernels/cuda/absent.c,$(KERNEL_SRC)) $(filter-out kernels/cuda/% kernels/attention/cuda/%,$(KERNEL_SRC))
else
KERNEL_SRC := $(filter-out kernels/cuda/absent.c,$(KERNEL_SRC))
CUDA_SRC   := $(wildcard kernels/cuda/*.cu kernels/attention/cuda/*.cu)
CUDA_HOME  := $(patsubst %/bin/,%,$(dir $(shell readlink -f $(NVCC))))
CUDA_CODES := $(shell $(NVCC) --list-gpu-code 2>/dev/null)
comma      := ,
cuda_known  = $(foreach arch,$(filter 8% 9% 1%,$(1)),$(if $(filter sm_$(arch),$(CUDA_CODES)),$(arch)))
ifeq ($(origin CUDA_ARCHS),undefined)
CUDA_HERE  := $(sort $(subst .,,$(shell nvidia-smi --query-gpu=compute_cap --format=csv$(comma)noheader 2>/dev/null)))
CUDA_ARCHS := $(or $(call cuda_known,$(CUDA_HERE)),$(call cuda_known,80 86 89 90 100 120))
else
CUDA_ARCHS_NAMED := 1
endif
CUDART     := $(firstword $(wildcard $(addsuffix /libcudart_static.a,$(CUDA_HOME)/lib64 $(CUDA_HOME)/lib $(CUDA_HOME)/targets/*/lib /usr/lib/*-linux-gnu)))
CUDA_LIBS  := $(CUDART) -ldl -lrt
endif
PROTO_DEF  := $(wildcard proto/*.proto)
PROTO_SRC  := $(wildcard proto/*.c)
PLAN_SRC   := $(wildcard plan/*.c)
COORD_SRC  := $(filter-out coordinator/main.c,$(wildcard coordinator/*.c coordinator/*/*.c))
WORKER_SRC := $(filter-out worker/main.c,$(wildcard worker/*.c))
NODE_SRC   := $(filter-out attention_node/main.c,$(wildcard attention_node/*.c))
CLUSTER_SRC:= $(filter-out cluster/main.c,$(wildcard cluster/*.c))

objs = $(patsubst %.c,$(BUILD)/%.o,$(1))
CUDA_OBJ   := $(patsubst %.cu,$(BUILD)/%.cu.o,$(CUDA_SRC))
LDLIBS     := $(CUDA_LIBS) -lm
PROTO_GEN  := $(patsubst %.proto,$(BUILD)/%.pb-c.c,$(PROTO_DEF))
PROTO_HDR  := $(PROTO_GEN:.c=.h)

BIN := $(BUILD)/bin
PROGRAMS := $(BIN)/longspan $(BIN)/coordinator $(BIN)/worker $(BIN)/attention_node

# A recipe begins with `say`: it makes the folder of what is made, and names the step; make V=1 shows whole command lines.
ifeq ($(V),1)
Q :=
say = @mkdir -p $(@D)
else
Q := @
say = @mkdir -p $(@D); printf '  %-6s %s\n' $(1) $(2)
endif

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SECONDARY:

all: $(PROGRAMS) ## build every program into build/release/bin

# ---- compiling ------------------------------------------------------------------------------------
$(BUILD)/%.pb-c.c $(BUILD)/%.pb-c.h: %.proto
	$(call say,PROTO,$<)
	$(Q)protoc-c --c_out=$(BUILD) $<

# Instruction sets are chosen at run time: a file named for one is compiled for it.
ifeq ($(ARCH),x86_64)
$(BUILD)/%_avx2.o:   CFLAGS += -mavx2 -mfma -mf16c
$(BUILD)/%_avx512.o: CFLAGS += -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mavx512cd -mfma -mf16c
$(BUILD)/%_bf16_avx512.o: CFLAGS += -mavx512bf16
endif
ifeq ($(ARCH),aarch64)
$(BUILD)/%_dotprod.o: CFLAGS += -march=armv8.2-a+dotprod
endif

$(BUILD)/proto/%.pb-c.o: $(BUILD)/proto/%.pb-c.c
	$(call say,CC,$<)
	$(Q)$(CC) $(CFLAGS) -w $(call pkg_cflags,libprotobuf-c) -c -o $@ $<
$(BUILD)/%.o: %.c
	$(call say,CC,$<)
	$(Q)$(call cc_of,$<) $(CFLAGS) $(call pkg_cflags,$(PKGS_$(call folder,$<))) -c -o $@ $<
$(call objs,$(PROTO_SRC) $(COORD_SRC) $(WORKER_SRC) $(NODE_SRC) $(CLUSTER_SRC) $(wildcard */main.c bench/*.c bench/measure/*.c)): $(PROTO_HDR)
$(BUILD)/coordinator/http/page.o: $(wildcard coordinator/http/page/*)
# A launcher before the compiler (CC="ccache gcc") goes before nvcc too. nvcc's own code is not as
# pedantic as ours, so that some warnings are for C only. Programs are linked without the C++ library.
NVCC_WARN  := -Werror all-warnings -Xcompiler -Wall,-Wextra,-Wpointer-arith,-Wformat=2
# All generations' machine code comes from three PTX, of 8.0, 9.0 and 10.0, which also serve GPUs that there is none for: to make
# PTX takes longer than to make code of it, and the kernels ask for no more (__CUDA_ARCH__).
cuda_ptx    = $(sort $(if $(filter 8%,$(1)),80) $(if $(filter 9%,$(1)),90) $(if $(filter 1%,$(1)),100))
NVCC_OPT   ?= -O3 -lineinfo
NVCC_FLAGS := -std=c++17 $(NVCC_OPT) -I. --threads 0 $(NVCC_WARN) -Xcompiler -fno-exceptions,-fno-rtti,-fno-threadsafe-statics -fmad=false \
    $(foreach arch,$(CUDA_ARCHS),-gencode arch=compute_$(call cuda_ptx,$(arch)),code=sm_$(arch)) \
    $(foreach arch,$(call cuda_ptx,$(CUDA_ARCHS)),-gencode arch=compute_$(arch),code=compute_$(arch))
# Small programs: what --compress-mode=size makes needs a driver of CUDA 12.4; those of nvcc 13 need a newer one anyway.
CUDA_MAJOR := $(if $(NVCC),$(shell $(NVCC) --version 2>/dev/null | sed -n 's/.*release \([0-9]*\).*/\1/p'))
NVCC_FLAGS += $(if $(filter-out 9 10 11 12,$(CUDA_MAJOR)),--compress-mode=size)
NVCC_RUN   = $(if $(word 2,$(CC)),$(firstword $(CC))) $(NVCC)
$(BUILD)/%.cu.o: %.cu $(BUILD)/cuda.stamp
	$(call say,NVCC,$<)
	$(Q)$(NVCC_RUN) $(NVCC_FLAGS) -Xptxas -v -MD -MP -MF $(@:.o=.d) -c -o $@ $< 2>$(@:.o=.report) || { cat $(@:.o=.report); exit 1; }
$(BUILD)/kernels/cuda/%.o $(BUILD)/kernels/attention/cuda/%.o: CFLAGS += $(if $(CUDA_HOME),-isystem $(CUDA_HOME)/include)
# What was built with CUDA, or for which GPUs, is not what is wanted now: make it anew.
$(BUILD)/cuda.stamp: always
	@mkdir -p $(@D)
	@echo "$(CUDA) $(CUDA_ARCHS)" | cmp -s - $@ || echo "$(CUDA) $(CUDA_ARCHS)" >$@

$(LIB)/libsys.a: $(call objs,$(SYS_SRC))
$(LIB)/libmodel.a: $(call objs,$(MODEL_SRC))
$(LIB)/libkernels.a: $(call objs,$(KERNEL_SRC)) $(CUDA_OBJ) $(BUILD)/cuda.stamp
$(LIB)/libproto.a: $(call objs,$(PROTO_SRC)) $(PROTO_GEN:.c=.o)
$(LIB)/libplan.a: $(call objs,$(PLAN_SRC))
$(LIB)/libcoordinator.a: $(call objs,$(COORD_SRC))
$(LIB)/libworker.a: $(call objs,$(WORKER_SRC))
$(LIB)/libattention_node.a: $(call objs,$(NODE_SRC))
$(LIB)/libcluster.a: $(call objs,$(CLUSTER_SRC))
$(LIB)/libmeasure.a: $(call objs,$(wildcard bench/measure/*.c))
$(LIB)/%.a:
	$(call say,AR,$@)
	@rm -f $@
	$(Q)$(AR) rcs $@ $(filter %.o,$^)

# ---- linking --------------------------------------------------------------------------------------
define link
	$(call say,LINK,$@)
	$(Q)$(call cc_of,$<) $(LDFLAGS) -o $@ $(filter %.o %.a,$^) $(call pkg_libs,$(PKGS_$(call folder,$<))) $(LDLIBS)
endef
$(BIN)/longspan: $(BUILD)/cluster/main.o $(LIBS_cluster)
$(BIN)/coordinator: $(BUILD)/coordinator/main.o $(LIBS_coordinator)
# Under AddressSanitizer it keeps its plugins, so that their leaks can be told from ours.
$(BIN)/worker: $(BUILD)/worker/main.o $(if $(findstring address,$(SANITIZE)),$(call objs,tests/suppressions/plugins.c)) $(LIBS_worker)
$(BIN)/attention_node: $(BUILD)/attention_node/main.o $(LIBS_attention_node)
$(PROGRAMS):
	$(link)

# ---- unit tests: tests/FOLDER/test_*.c, one program each, linked with what FOLDER may include -----
# A test that needs no state of cmocka, and a stand-in that needs not all it is told, do not mention it.
TEST_FLAGS := -UNDEBUG -Wno-unused-parameter
# Those of a GPU's code need its headers: without CUDA they are left out.
TESTS := $(patsubst tests/%.c,$(BUILD)/tests/%,$(filter-out $(if $(filter 0,$(CUDA)),tests/kernels/cuda/%),\
    $(wildcard tests/*/test_*.c tests/*/*/test_*.c)))
$(BUILD)/tests/kernels/cuda/%: CFLAGS += $(if $(CUDA_HOME),-isystem $(CUDA_HOME)/include)
TEST_LIBS_worker := $(call libs,attention_node)# its nodes are real
.SECONDEXPANSION:
$(TESTS): $(BUILD)/tests/%: tests/%.c $$(TEST_LIBS_$$(call folder,$$*)) $$(LIBS_$$(call folder,$$*))
	$(call say,LINK,$@)
	$(Q)$(call cc_of,$<) $(CFLAGS) $(TEST_FLAGS) $(call pkg_cflags,cmocka $(PKGS_$(call folder,$<))) $(LDFLAGS) -o $@ $< \
	    $(filter %.a,$^) $(call pkg_libs,cmocka $(PKGS_$(call folder,$<))) $(LDLIBS)

# ---- the kernels of GPUs on the host: tests/emulation. The same tests, with fibers in the place of CUDA's runtime; not
# those of cuBLASLt, which needs a GPU ----
# With RACES=1 every access of a kernel, and of the host's code around it, is told to tests/emulation/races.cc.
EMULATION := $(BUILD)/$(if $(RACES),races,emulation)
WATCHED   := $(if $(RACES),-fsanitize=thread --param tsan-instrument-func-entry-exit=0)
WATCHED_C := $(if $(RACES),$(WATCHED) -Dmemcpy=watched_memcpy -Dmemmove=watched_memmove -Dmemset=watched_memset)
WATCHED_SRC := $(if $(RACES),$(filter kernels/cuda/% kernels/attention/cuda/%,$(KERNEL_SRC)))
EMULATION_OBJ := $(addprefix $(EMULATION)/,fibers.o runtime.o races.o)
EMULATED_OBJ := $(CUDA_SRC:%.cu=$(EMULATION)/%.o) $(EMULATION_OBJ)
EMULATED := $(patsubst tests/%.c,$(EMULATION)/%,$(filter-out %/test_blas.c,$(wildcard tests/kernels/cuda/test_*.c)) \
    $(addprefix tests/kernels/cpu/test_,cpu.c device.c dense.c dense_segments.c groups.c) tests/worker/test_recorded_steps.c)
EMULATION_CXX = $(if $(word 2,$(CC)),$(firstword $(CC))) $(CXX) -std=c++17 -g $(NUMERIC) -pthread -MMD -MP -fno-extern-tls-init \
    -march=native -iquote tests/emulation -iquote . -isystem $(CUDA_HOME)/include $(SANITIZE)
$(EMULATION)/%.cc: %.cu
	@mkdir -p $(@D)
	$(Q)sed -E 's/(\w+)<<<(.*)>>>\(/emulation::configured(\1, \2)(/' $< >$@
$(EMULATION)/%.o: $(EMULATION)/%.cc
	$(call say,CXX,$<)
	$(Q)$(EMULATION_CXX) $(if $(RACES),-O1 $(WATCHED),-O3) -w -include tests/emulation/device.h -c -o $@ $<
$(EMULATION_OBJ): $(EMULATION)/%.o: tests/emulation/%.cc
	$(call say,CXX,$<)
	$(Q)$(EMULATION_CXX) -O3 -Wall -Wextra -c -o $@ $<
$(WATCHED_SRC:%.c=$(EMULATION)/%.o): $(EMULATION)/%.o: %.c
	$(call say,CC,$<)
	$(Q)$(CC) $(CFLAGS) $(WATCHED_C) -isystem $(CUDA_HOME)/include -c -o $@ $<
EMULATION_TESTS := $(EMULATION)/tests/emulation/test_$(if $(RACES),races,ends)
$(EMULATION_TESTS): %: %.o $(EMULATION_OBJ)
	$(call say,LINK,$@)
	$(Q)$(CXX) $(LDFLAGS) -o $@ $^ $(call pkg_libs,cmocka)
# Of a worker's the kernels come first, so that none is taken from the library, which has a GPU's.
$(EMULATED): $(EMULATION)/%: $(EMULATION)/tests/%.o $(EMULATED_OBJ) $(WATCHED_SRC:%.c=$(EMULATION)/%.o) $(call objs,$(filter-out $(WATCHED_SRC),$(KERNEL_SRC))) $$(filter-out $(LIB)/libkernels.a,$$(LIBS_$$(call folder,$$*)))
	$(call say,LINK,$@)
	$(Q)OMPI_CC="$(CXX)" $(MPICC) $(LDFLAGS) -o $@ $^ $(call pkg_libs,cmocka $(PKGS_$(call folder,$*))) -ldl -lm
$(EMULATION)/tests/%.o: tests/%.c | $(PROTO_HDR)
	$(call say,CC,$<)
	$(Q)$(call cc_of,$<) $(CFLAGS) $(WATCHED_C) $(TEST_FLAGS) -isystem $(CUDA_HOME)/include \
	    $(call pkg_cflags,cmocka $(PKGS_worker)) -c -o $@ $<

# ---- fuzz targets: tests/fuzz/fuzz_*.c. Built like everything else they replay the inputs that are kept ----
FUZZ := $(patsubst tests/%.c,$(BUILD)/tests/%,$(wildcard tests/fuzz/fuzz_*.c))
FUZZ_LIBS := $(call libs,cluster coordinator worker attention_node proto plan model kernels sys)
FUZZ_PKGS := cmocka $(PKGS_cluster) libmicrohttpd hwloc
FUZZ_MAIN ?= tests/fuzz/replay.c
$(FUZZ): $(BUILD)/tests/fuzz/%: tests/fuzz/%.c $(FUZZ_MAIN) $(FUZZ_LIBS)
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS) $(TEST_FLAGS) -DFUZZ_KEPT='"tests/fuzz/kept/$*"' $(call pkg_cflags,$(FUZZ_PKGS)) $(LDFLAGS) -o $@ $(FUZZ_MAIN) $< $(FUZZ_LINK) \
	    $(FUZZ_LIBS) $(call pkg_libs,$(FUZZ_PKGS)) $(LDLIBS)
$(BUILD)/tests/fuzz/seeds: tests/fuzz/seeds.c $(FUZZ_LIBS)
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS) $(TEST_FLAGS) $(call pkg_cflags,$(FUZZ_PKGS)) $(LDFLAGS) -o $@ $< $(FUZZ_LIBS) $(call pkg_libs,$(FUZZ_PKGS)) $(LDLIBS)

# With clang they fuzz. Code for one instruction set sees only what was checked before, and takes clang minutes.
CLANG ?= clang
FUZZ_BUILD := $(MAKE) --no-print-directory CC="$(CLANG)" CUDA=0 VARIANT=fuzz OPT="-O1 -g" FUZZ_MAIN= FUZZ_LINK=-fsanitize=fuzzer \
    SANITIZE="-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer"
FUZZ_SECONDS ?= 3600
FUZZ_JOBS ?= $(shell nproc)
ifeq ($(VARIANT),fuzz)
$(BUILD)/%_avx2.o $(BUILD)/%_avx512.o: override SANITIZE :=
$(BUILD)/%_avx2.o $(BUILD)/%_avx512.o: override OPT := -O0 -g# compiled sooner; no input of a fuzzer reaches them but through fuzz_worker
$(BUILD)/sys/sha256.o: override SANITIZE += -fno-sanitize-coverage=trace-cmp# of its own rounds: they say nothing of an input
endif
fuzz-targets: $(FUZZ) $(BUILD)/tests/fuzz/seeds
fuzz: ## fuzz every target, FUZZ_SECONDS each (3600), FUZZ_JOBS at once; needs clang (./deps.sh --fuzz)
	@$(FUZZ_BUILD) -j$(JOBS) fuzz-targets
	@tests/fuzz/run.sh --seconds $(FUZZ_SECONDS) --jobs $(FUZZ_JOBS)
fuzz-short: ## the same for 15 seconds, all at once
	@$(MAKE) --no-print-directory fuzz FUZZ_SECONDS=15 FUZZ_JOBS=1000

# What the integration tests need beside the programs.
RELAY := $(BUILD)/tests/integration/relay
$(RELAY): tests/integration/relay.c $(LIB)/libproto.a
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS) $(call pkg_cflags,$(WIRE_PKGS)) $(LDFLAGS) -o $@ $^ $(call pkg_libs,$(WIRE_PKGS))

# Links of the network-namespace test bed (cluster/testbed/).
DELAY := $(BUILD)/testbed/delay
$(DELAY): cluster/testbed/delay.c
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $<

tests: $(TESTS) $(RELAY) $(FUZZ) $(DELAY)

# One folder's unit tests: make unit-model, unit-kernels, unit-sys ...
PERCENT := %
unit-%: $$(filter $(BUILD)/tests/$$*/$$(PERCENT),$(TESTS))
	$(if $^,,$(error unit-$*: there are no unit tests of such a folder))tests/run.sh $^

# ---- what a user types ----------------------------------------------------------------------------
SEED ?= 1
JOBS ?= $(shell nproc)
deps: ## install what the build needs (Debian packages; asks for root through sudo)
	@./deps.sh

# The demo runs on CPUs: it does not wait for GPU code, but where that was built before, it stays,
# for the generations of then, unless others are named now. `make` adds it.
CUDA_STAMP = $(shell cat $(BUILD)/cuda.stamp 2>/dev/null)
AS_BUILT   = $(if $(filter 1,$(firstword $(CUDA_STAMP))),$(if $(CUDA_ARCHS_NAMED),,CUDA_ARCHS='$(wordlist 2,99,$(CUDA_STAMP))'),CUDA=0)
demo: ## install what is missing, build for CPUs, ask a cluster of five processes about a long text
	@./deps.sh --if-missing
	@$(MAKE) --no-print-directory -j$(JOBS) $(AS_BUILT) all
	@BIN=$(BIN) cluster/demo.sh --seed $(SEED)

# The longest begin first: nothing waits for them in the end. Those that use a processor for less than half of their time have
# a lane of their own. All beside others, but for those that say how soon something ends.
INTEGRATION := $(wildcard tests/*/test_*.py)
TEST_FIRST  := $(addprefix tests/,integration/test_layouts.py oracles/test_logits.py integration/test_hosts.py)
TEST_WAITING := $(addprefix tests/integration/,test_windows.py test_sharing.py test_idle.py test_bad_input.py test_hostile_http.py) \
    $(addprefix $(BUILD)/tests/,attention_node/test_node coordinator/test_coordinator_joining coordinator/test_coordinator_faults worker/test_wire)
TEST_ALONE  := $(addprefix tests/integration/,test_failures.py test_front_door.py)
TEST_JOBS   ?= $(firstword $(filter 1 2 3,$(shell nproc)) 4)
test: ## unit and integration tests, TEST_JOBS at once; needs no GPU and no network
	@$(MAKE) --no-print-directory -j$(JOBS) all tests layers
	@LONGSPAN_BIN=$(BIN) tests/run.sh --jobs $(TEST_JOBS) $(TEST_FIRST) \
	    $(filter-out $(TEST_FIRST) $(TEST_WAITING) $(TEST_ALONE),$(TESTS) $(FUZZ) $(INTEGRATION)) \
	    --waiting $(TEST_WAITING) --alone $(TEST_ALONE)

test-layouts: all ## every parallel layout against one process, byte for byte, as one table
	@LONGSPAN_BIN=$(BIN) python3 tests/integration/layouts.py --all

test-retrieval: all ## five needles in 131,009 tokens: one prefill, five forks, five answers
	@LONGSPAN_BIN=$(BIN) python3 tests/integration/retrieval.py

test-serve: all ## a thousand requests, half of them cancelled: with and without attention nodes, with and without prefix cache
	@for nodes in 0 2; do LONGSPAN_BIN=$(BIN) python3 tests/integration/cancels.py --nodes $$nodes || exit 1; done

ORACLE_PYTHON ?= python3
oracles: all ## make tests/oracles/golden/ anew; needs Python with torch and transformers (ORACLE_PYTHON=...)
	@LONGSPAN_BIN=$(BIN) $(ORACLE_PYTHON) tests/oracles/transformers_logits.py

test-tokenizers: all ## ids of every family of tokenizers beside Hugging Face's and SentencePiece's own: 10,000 strings each
	@LONGSPAN_BIN=$(BIN) ORACLE_PYTHON=$(ORACLE_PYTHON) tests/oracles/tokenizers.sh build/oracle-python

# Sanitizers: unit tests and a small cluster, in builds of their own. MPI and ZeroMQ keep memory at exit
# and synchronise in ways the tools cannot see: tests/suppressions names those libraries, nothing of ours.
test-asan: ## unit tests and a small cluster under AddressSanitizer and LeakSanitizer
	@$(MAKE) --no-print-directory -j$(JOBS) VARIANT=asan SANITIZE="-fsanitize=address -fno-omit-frame-pointer" OPT="-O1 -g" sanitized
test-ubsan: ## the same under UndefinedBehaviorSanitizer
	@$(MAKE) --no-print-directory -j$(JOBS) VARIANT=ubsan SANITIZE="-fsanitize=undefined -fno-sanitize-recover=undefined" OPT="-O1 -g" sanitized
test-tsan: ## lanes of the layers, sockets, attention nodes and the HTTP side under ThreadSanitizer; without GPU code
	@$(MAKE) --no-print-directory -j$(JOBS) VARIANT=tsan CUDA=0 SANITIZE="-fsanitize=thread" OPT="-O1 -g" sanitized-threads

test-emulated: ## the tests of the CUDA kernels without a GPU: their sources on this machine's processors; needs nvcc's headers
	@$(MAKE) --no-print-directory $(EMULATED) $(EMULATION_TESTS)
	@LONGSPAN_TEST_TABLE=cuda tests/run.sh --jobs $(JOBS) $(EMULATION_TESTS) $(EMULATED)
	@LONGSPAN_EMULATED_SHARED=100 tests/run.sh --jobs $(JOBS) $(filter %/test_variants,$(EMULATED))
test-emulated-races: ## the same, and which accesses to the device's memory race: between threads, blocks, kernels, streams and the host
	@$(MAKE) --no-print-directory RACES=1 emulated-races
emulated-races: $(EMULATED) $(EMULATION_TESTS)
	@LONGSPAN_TEST_TABLE=cuda LONGSPAN_TEST_TIMEOUT=7200 tests/run.sh --jobs $(JOBS) $(EMULATION_TESTS) $(EMULATED)

# 64-bit ARM without such a machine: the tests of kernels/ in an emulator. cmocka is tests/standalone's, nothing links hwloc: the
# compiler and the emulator are all it needs.
ARM_CROSS ?= aarch64-linux-gnu-
ARM_CPUS  ?= max cortex-a72
ARM_QEMU   = $(firstword $(shell command -v qemu-aarch64 qemu-aarch64-static))
ARM_LACKS  = $(if $(shell command -v $(ARM_CROSS)gcc),,gcc-aarch64-linux-gnu libc6-dev-arm64-cross) $(if $(ARM_QEMU),,qemu-user)
test-arm: ## the tests of kernels/ on emulated 64-bit ARM processors, ARM_CPUS; skips without compiler or emulator
	@$(if $(strip $(ARM_LACKS)),echo "skipped: Debian's packages $(strip $(ARM_LACKS)) are not installed", \
	    CFLAGS="-isystem tests/standalone" LDFLAGS=-static $(MAKE) --no-print-directory -j$(JOBS) CROSS=$(ARM_CROSS) CUDA=0 \
	    PKG_CONFIG=false SYS_SRC="$(filter-out sys/binding.c,$(SYS_SRC))" test-kernels-under)
test-kernels-under: $(filter $(BUILD)/tests/kernels/%,$(TESTS))
	@for cpu in $(ARM_CPUS); do echo "$(ARM_QEMU) -cpu $$cpu"; \
	    LONGSPAN_TEST_UNDER="$(ARM_QEMU) -cpu $$cpu" tests/run.sh --jobs $(JOBS) $^ || exit 1; done

SUPPRESS := $(CURDIR)/tests/suppressions
SANITIZER_ENV = ASAN_OPTIONS=detect_leaks=1 \
    LSAN_OPTIONS=suppressions=$(SUPPRESS)/lsan.txt:print_suppressions=0 \
    UBSAN_OPTIONS=print_stacktrace=1 TSAN_OPTIONS=suppressions=$(SUPPRESS)/tsan.txt:halt_on_error=1:ignore_noninstrumented_modules=1 \
    LONGSPAN_TEST_TIMEOUT=900 LONGSPAN_SANITIZED=1
sanitized: all tests
	@$(SANITIZER_ENV) LONGSPAN_BIN=$(BIN) tests/run.sh --jobs $(TEST_JOBS) $(TESTS) $(FUZZ) $(addprefix tests/integration/,test_small_cluster.py test_hostile_http.py test_bad_input.py)
# Of what has threads: a program of one has nothing to tell.
TSAN_TESTS = $(filter $(BUILD)/tests/sys/% $(addprefix $(BUILD)/tests/kernels/attention/test_,attend kv_holder) \
    $(BUILD)/tests/proto/% $(BUILD)/tests/attention_node/% $(BUILD)/tests/kernels/cpu/% $(BUILD)/tests/kernels/test_candidates \
    $(addprefix $(BUILD)/tests/worker/test_,attention exchange fill forward load load_progress needed_rows wire) \
    $(addprefix $(BUILD)/tests/coordinator/http/test_,bridge desk door status_source) \
    $(addprefix $(BUILD)/tests/coordinator/test_,schemas texts) \
    $(BUILD)/tests/cluster/test_quantize $(BUILD)/tests/cluster/test_make_random,$(TESTS))
sanitized-threads: $(TSAN_TESTS)
	@$(SANITIZER_ENV) tests/run.sh --jobs $(TEST_JOBS) $(TSAN_TESTS)

# ---- measurements: bench/*.c, one program each, with what bench/measure/ shares ---------------------
BENCHES := $(patsubst bench/%.c,$(BUILD)/bench/%,$(wildcard bench/*.c))
$(BENCHES): $(BUILD)/bench/%: $(BUILD)/bench/%.o $(LIBS_bench)
	$(link)
benches: $(BENCHES) $(DELAY) ## build what measures
bench: $(BENCHES) ## measure this machine: bandwidth, products, attention, exchange
	@for program in stream matmul attention attention_prefill attention_splits exchange; do $(BUILD)/bench/$$program || exit 1; echo; done

BENCH_MODELS ?= build/models
bench-gpu: ## test and measure this machine's GPU, and say which figures are ok; needs gcc and nvcc; under 8 minutes
	@bench/gpu.sh

bench-check: all benches ## the acceptance figures that need no other engine: ok or short; under 4 minutes
	@LONGSPAN_BIN=$(BIN) bench/check.py --models $(BENCH_MODELS)

cuda-report: $(CUDA_OBJ) ## registers, stack frames and spills of every CUDA kernel; fails if a hot one spills
	@tests/cuda_report.py $(CUDA_OBJ:.o=.report)

layers: ## check who includes whom, and that every README names its folder's sources
	@tests/layers.sh && tests/readmes.sh

TO     := $(DESTDIR)$(PREFIX)
ROLES  := coordinator worker attention_node
SHARED := $(wildcard cluster/*.yaml cluster/deploy/*) cluster/grafana.json
ifneq ($(and $(filter install uninstall,$(MAKECMDGOALS)),$(word 2,$(TO))),)
$(error DESTDIR and PREFIX make "$(TO)", with a blank in it: name another folder)
endif
# What the programs print of themselves, a cross-built one where it runs: manual pages, and what completes command lines.
MANUAL := share/man/man1
SHELLS := bash zsh fish
COMPLETION_bash := share/bash-completion/completions/longspan
COMPLETION_zsh  := share/zsh/site-functions/_longspan
COMPLETION_fish := share/fish/vendor_completions.d/longspan.fish
define completion
	install -d $(dir $(TO)/$(COMPLETION_$(1)))
	$(BIN)/longspan completion $(1) >$(TO)/$(COMPLETION_$(1))
	chmod 644 $(TO)/$(COMPLETION_$(1))

endef
install: all ## install under PREFIX (/usr/local)
	install -d $(TO)/bin $(TO)/libexec/longspan $(TO)/share/longspan
	install $(BIN)/longspan $(TO)/bin/
	install $(addprefix $(BIN)/,$(ROLES)) $(TO)/libexec/longspan/
	install -m 644 $(SHARED) $(TO)/share/longspan/
ifeq ($(CROSS),)
	install -d $(TO)/$(MANUAL)
	cluster/manual.sh $(BIN) $(TO)/$(MANUAL)
	$(foreach name,$(SHELLS),$(call completion,$(name)))
else
	@echo "left out, for the machine where the programs run: cluster/manual.sh, longspan completion"
endif

uninstall: ## remove what install puts under PREFIX, and nothing else
	rm -f $(TO)/bin/longspan $(addprefix $(TO)/libexec/longspan/,$(ROLES)) $(addprefix $(TO)/share/longspan/,$(notdir $(SHARED)))
	rm -f $(foreach name,$(SHELLS),$(TO)/$(COMPLETION_$(name))) $(TO)/$(MANUAL)/longspan.1 $(TO)/$(MANUAL)/longspan-*.1
	for folder in $(TO)/libexec/longspan $(TO)/share/longspan; do [ ! -d $$folder ] || rmdir --ignore-fail-on-non-empty $$folder; done

format: ## clang-format every source in place
	clang-format -i $$(git ls-files -co --exclude-standard '*.c' '*.h' '*.cc' '*.cu' '*.cuh')

clean: ## remove build/
	rm -rf build

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 24

.PHONY: always test-arm test-kernels-under test-emulated test-emulated-races emulated-races cuda-report oracles all tests deps demo test test-tokenizers test-layouts test-retrieval test-serve test-asan test-ubsan test-tsan sanitized \
    sanitized-threads layers install uninstall benches bench bench-gpu bench-check fuzz fuzz-short fuzz-targets format clean help
-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
