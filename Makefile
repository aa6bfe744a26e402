# Everything a person does with a clone. Each target works on a fresh Debian machine: it first installs what is missing.
# The tests and the demo make network namespaces, so they need root.

CARGO ?= cargo
BINARY := target/release/switchyard

.PHONY: build demo test lint bench setup clean

build: setup
	$(CARGO) build --locked --release --package switchyard-cli

## The lecture on service networking, told on a cluster of three nodes on this machine.
demo: build
	$(BINARY) demo

## Format, lints and every test: unit, recorded cases, real kernel, end to end.
test: setup lint
	$(CARGO) build --locked --package switchyard-cli
	$(CARGO) test --locked --workspace

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- --deny warnings
	RUSTDOCFLAGS="--deny warnings" $(CARGO) doc --locked --workspace --no-deps --quiet

## Times and memory at 5,000 services of 10 endpoints; see "Figures" in the README.
bench: build
	$(CARGO) run --locked --release --package switchyard-tests --bin bench
	$(CARGO) run --locked --release --package switchyard-tests --bin bench_api
	$(CARGO) run --locked --release --package switchyard-tests --bin bench_lab

setup:
	@scripts/install-dependencies

clean:
	$(CARGO) clean
