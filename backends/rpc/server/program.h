/* A compiled network of gmpq (model.h): opened, run step by step, and timed, for a client.
 *
 *   gmpq.board.open(library, params, params_bytes, workspace_bytes, steps, threads, prefix)
 *     whose functions begin with `prefix`
 *   gmpq.board.input(index, bytes)
 *   gmpq.board.output(size)  adds an output of so many bytes
 *   gmpq.board.run(first, last)
 *   gmpq.board.read_output(index) -> bytes
 *   gmpq.board.read_workspace(offset, size) -> bytes
 *   gmpq.board.time_runs(count) -> bytes of float64, the milliseconds of each whole run
 *   gmpq.board.time_steps(count) -> bytes of float64 [count, steps], the milliseconds of each step
 */
#pragma once

#include <string>

/* Publishes the functions; paths are names inside of `folder`. A process has one program. */
void publish_program(const std::string &folder);
