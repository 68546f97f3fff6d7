#include "call.h"

#include <exception>
#include <vector>

namespace {

TVMFFIByteArray array_of(std::string_view content) { return {content.data(), content.size()}; }

std::string_view view_of(const TVMFFIByteArray &array) { return {array.data, array.size}; }

/* An object of tvm-ffi is a header and, directly behind it, its content. */
template <typename Content>
const Content &content_of(const TVMFFIObject *object) {
  return *reinterpret_cast<const Content *>(object + 1);
}

[[noreturn]] void refuse_with_raised() {
  TVMFFIObjectHandle error = nullptr;
  TVMFFIErrorMoveFromRaised(&error);
  if (error == nullptr) throw Refusal("failed without a message");
  auto &cell = content_of<TVMFFIErrorCell>(static_cast<TVMFFIObject *>(error));
  std::string message(view_of(cell.message));
  TVMFFIObjectDecRef(error);
  throw Refusal(message);
}

int run(void *function, const TVMFFIAny *values, int32_t count, TVMFFIAny *value) {
  try {
    Result result(value);
    reinterpret_cast<Function>(function)(Arguments(values, count), result);
    return 0;
  } catch (const std::exception &error) {
    TVMFFIErrorSetRaisedFromCStr("RuntimeError", error.what());
    return -1;
  }
}

}  // namespace

const TVMFFIAny &Arguments::at(int index) const {
  if (index >= count_)
    throw Refusal("got " + std::to_string(count_) + " arguments: give " +
                  std::to_string(index + 1) + " or more");
  return values_[index];
}

std::string_view Arguments::text(int index) const {
  const TVMFFIAny &value = at(index);
  switch (value.type_index) {
    case kTVMFFIRawStr:
      return value.v_c_str;
    case kTVMFFIByteArrayPtr:
      return view_of(*static_cast<TVMFFIByteArray *>(value.v_ptr));
    case kTVMFFISmallStr:
    case kTVMFFISmallBytes:
      return {value.v_bytes, value.small_str_len};
    case kTVMFFIStr:
    case kTVMFFIBytes:
      return view_of(content_of<TVMFFIByteArray>(value.v_obj));
    default:
      throw Refusal("argument " + std::to_string(index) + " must be a string or bytes");
  }
}

int64_t Arguments::integer(int index) const {
  if (at(index).type_index != kTVMFFIInt)
    throw Refusal("argument " + std::to_string(index) + " must be an integer");
  return at(index).v_int64;
}

void Result::text(std::string_view content) {
  TVMFFIByteArray array = array_of(content);
  if (TVMFFIStringFromByteArray(&array, value_) != 0) refuse_with_raised();
}

void Result::bytes(std::string_view content) {
  TVMFFIByteArray array = array_of(content);
  if (TVMFFIBytesFromByteArray(&array, value_) != 0) refuse_with_raised();
}

void publish(const char *name, Function function) {
  TVMFFIObjectHandle made = nullptr;
  TVMFFIByteArray key = array_of(name);
  if (TVMFFIFunctionCreate(reinterpret_cast<void *>(function), run, nullptr, &made) != 0 ||
      TVMFFIFunctionSetGlobal(&key, made, 1) != 0)
    refuse_with_raised();
  TVMFFIObjectDecRef(made);
}

TVMFFIAny integer_value(int64_t number) {
  TVMFFIAny value{};
  value.type_index = kTVMFFIInt;
  value.v_int64 = number;
  return value;
}

TVMFFIAny text_value(const std::string &text) {
  TVMFFIAny value{};
  value.type_index = kTVMFFIRawStr;
  value.v_c_str = text.c_str();
  return value;
}

TVMFFIAny call(const char *name, std::initializer_list<TVMFFIAny> arguments) {
  TVMFFIObjectHandle function = nullptr;
  TVMFFIByteArray key = array_of(name);
  if (TVMFFIFunctionGetGlobal(&key, &function) != 0) refuse_with_raised();
  if (function == nullptr) throw Refusal(std::string("TVM has no function ") + name);
  std::vector<TVMFFIAny> values(arguments);
  TVMFFIAny result{};
  int status =
      TVMFFIFunctionCall(function, values.data(), static_cast<int32_t>(values.size()), &result);
  TVMFFIObjectDecRef(function);
  if (status != 0) refuse_with_raised();
  return result;
}
