# Each target is a script of the same name under scripts/, so that it can be read and run alone.
.DEFAULT_GOAL := help
.PHONY: help run build test lint fmt generate bench bench-balancer chaos

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1|/' | awk -F'|' '{printf "  make %-15s %s\n", $$1, $$2}'

run: ## Set up, build, fetch the models and start Jarvis on http://127.0.0.1:8080
	@scripts/run

build: ## Set up and build the web app and the optimized program (target/release/jarvis)
	@scripts/build

test: ## Everything CI checks: lints, unit, integration, client and browser tests
	@scripts/test

lint: ## Formatting, clippy, spelling, licences, generated files
	@scripts/lint

fmt: ## Format all code
	@scripts/fmt

generate: ## Write the generated files anew (configuration schema, OpenAPI document, TypeScript client)
	@scripts/generate

bench: ## Measure every published figure (see bench/)
	@scripts/bench

chaos: ## Kill Jarvis, its engines and instances, Redis masters and PostgreSQL primaries for two hours or so (see scripts/chaos/)
	@scripts/chaos/all

bench-balancer: ## Measure the balancer alone, beside nginx, HAProxy and two routers (see bench/)
	@scripts/bench-balancer
