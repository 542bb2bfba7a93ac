# `make demo` sets everything up and deploys the example; `make test` proves that it works, and `make torture` that nothing hurts
# it; `make bench` measures it.

PIPE := target/release/pipe
CARGO := cargo
# Where cargo writes; `target/release/pipe` is the binary, wherever that is.
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)

.PHONY: demo test torture bench build plugins check fuzz soak clean

demo: build
	$(PIPE) run pipelines/release.pipeline

test: build
	$(CARGO) test --locked --release --workspace

# Pipe beside its peers, which are installed; ROWS are words of the names of rows: `make bench ROWS="cold curve"`.
bench: build
	python3 -B tests/bench $(ROWS)

# Kills, power cuts, full and read-only disks, damage and many runs at once, each tried hundreds of times, and a machine
# under systemd that is restarted; as root, with loop devices. Takes about an hour.
torture: build
	PIPE_TORTURE=1 $(CARGO) test --locked --release --workspace --test end_to_end -- faults a_host_whose_disk systemd --include-ignored --test-threads 1
	PIPE_TORTURE=1 $(CARGO) test --locked --release --workspace --test release -- load:: --test-threads 1

# The whole workspace, as the tests do: a selection of other packages has other features, and compiles wasmtime again.
build: plugins
	$(CARGO) build --locked --release --workspace --bin pipe
ifneq ($(TARGET_DIR),target)
	mkdir -p target/release && ln -sf "$$(cd "$(TARGET_DIR)" && pwd)/release/pipe" $(PIPE)
endif

# The built-in steps, each a WebAssembly module of its own; `pipe` embeds them.
plugins:
	plugins/build

# What CI asks for besides the tests.
check: build
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --release --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --release --workspace --no-deps

# Longer runs of what the tests do for a moment. Each parser of what others wrote is attacked for FUZZ seconds; bytes that make
# one panic stay in tests/fuzz/corpus. Numbers that overflow panic there too.
FUZZ := 600
CHECKED := $(foreach package,pipe-runner python-packaging python-venv node-modules,$(foreach check,overflow-checks debug-assertions,\
	--config profile.release.package.$(package).$(check)=true))
fuzz: build
	PIPE_FUZZ_SECONDS=$(FUZZ) $(CARGO) test --locked --release --workspace $(CHECKED) --lib -- any_bytes any_text

# The cache is held against a model without one, over so many random pipelines.
CASES := 2000
soak: build
	PROPTEST_CASES=$(CASES) $(CARGO) test --locked --release --workspace --lib what_is_cached

clean:
	$(CARGO) clean
