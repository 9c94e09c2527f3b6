# Sluice. `make help` lists the targets.
CC      ?= cc
BUILD   ?= build
OPT     ?= -O2
CFLAGS  ?= -g
WARN    := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wvla -Werror=implicit-function-declaration
ALLCFLAGS = -std=gnu17 $(OPT) $(CFLAGS) $(WARN) -ffp-contract=off -fno-strict-aliasing -fPIC -pthread -D_GNU_SOURCE -I. $(SANITIZE) -MMD -MP
LDLIBS  = -luring -lhwloc -lpcre2-8 -pthread -lm
CLI_LIBS = -ljansson

LIB_SRC := $(wildcard core/*.c kernels/*.c kernels/ref/*.c kernels/cpu/*.c pager/*.c offload/*.c offload/tools/*.c)
CLI_SRC := $(wildcard offload/cli/*.c)
TEST_SRC := $(wildcard tests/test_*.c)
LIB_OBJ := $(LIB_SRC:%.c=$(BUILD)/%.o)
CLI_OBJ := $(CLI_SRC:%.c=$(BUILD)/%.o)
TESTS   := $(TEST_SRC:%.c=$(BUILD)/%)

all: sluice
sluice: $(BUILD)/sluice
	cp -f $< $@
$(BUILD)/libsluice.a: $(LIB_OBJ)
	rm -f $@ && ar rcs $@ $^
$(BUILD)/sluice: $(CLI_OBJ) $(BUILD)/libsluice.a
	$(CC) $(SANITIZE) -o $@ $^ $(CLI_LIBS) $(LDLIBS)
$(BUILD)/tests/%: $(BUILD)/tests/%.o $(BUILD)/libsluice.a
	$(CC) $(SANITIZE) -o $@ $^ -lcmocka $(CLI_LIBS) $(LDLIBS)

# One source per instruction set; the file's name ends in what it may use.
$(BUILD)/kernels/cpu/%_avx2.o:   ISA = -mavx2 -mfma -mf16c -mbmi2
$(BUILD)/kernels/cpu/%_avx512.o: ISA = -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mavx2 -mfma -mf16c -mbmi2 -mprefer-vector-width=512
$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(ALLCFLAGS) $(ISA) -c -o $@ $<

-include $(LIB_OBJ:.o=.d) $(CLI_OBJ:.o=.d) $(TEST_SRC:%.c=$(BUILD)/%.d)
.PHONY: all
.SECONDARY:
