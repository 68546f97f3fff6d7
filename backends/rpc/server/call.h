/* Functions of TVM's registry: giving it own ones, and calling others.
 *
 * Everything passes the C interface of tvm-ffi, since the libraries of TVM's wheels may be built
 * with another C++ library than this program; exceptions stay on their side.
 */
#pragma once

#include <tvm/ffi/c_api.h>

#include <cstdint>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <string_view>

/* What a client hears when a function cannot do what it asks for. */
struct Refusal : std::runtime_error {
  using std::runtime_error::runtime_error;
};

class Arguments {
 public:
  Arguments(const TVMFFIAny *values, int count) : values_(values), count_(count) {}
  int count() const { return count_; }
  std::string_view text(int index) const; /* a string or bytes */
  int64_t integer(int index) const;

 private:
  const TVMFFIAny &at(int index) const;

  const TVMFFIAny *values_;
  int count_;
};

/* What a function returns; nothing at first. */
class Result {
 public:
  explicit Result(TVMFFIAny *value) : value_(value) {}
  void text(std::string_view content);
  void bytes(std::string_view content);
  void value(const TVMFFIAny &owned) { *value_ = owned; }

 private:
  TVMFFIAny *value_;
};

using Function = void (*)(const Arguments &, Result &);

/* Lets clients call `function` by `name`. */
void publish(const char *name, Function function);

TVMFFIAny integer_value(int64_t number);
TVMFFIAny text_value(const std::string &text); /* looks at `text` */

/* Returns what the function called `name` returns; throws Refusal with its message. */
TVMFFIAny call(const char *name, std::initializer_list<TVMFFIAny> arguments);
