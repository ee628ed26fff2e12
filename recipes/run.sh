#!/bin/sh
# Runs the stages of a system in order: sh recipes/run.sh nano
cd "$(dirname "$0")/.." && exec codeshell run "$@"
