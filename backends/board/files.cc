#include "files.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <system_error>

#include "call.h"
#include "descriptor.h"
#include "text.h"

std::string read_text(const std::string &path, size_t most) {
  Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::string content;
  char part[4096];
  while (file.open() && content.size() < most) {
    ssize_t count = read(file.number(), part, sizeof part);
    if (count <= 0) break;
    content.append(part, static_cast<size_t>(count));
  }
  return content;
}

std::string make_folder(const std::string &parent) {
  std::string path = parent + "/gmpq-board-XXXXXX";
  return mkdtemp(path.data()) == nullptr ? "" : path;
}

void remove_folder(const std::string &path) {
  std::error_code error;
  std::filesystem::remove_all(path, error);
  if (error) log_line(path + ": cannot be removed: " + error.message());
}

std::string path_inside(const std::string &folder, const std::string &name) {
  bool inside = !name.empty() && name[0] != '/' && name.find('\0') == std::string::npos;
  for (const std::string &part : split(name, '/')) inside = inside && part != "..";
  if (!inside)
    throw Refusal("path " + quoted(name) + " leads out of the session's folder: give a plain name");
  return folder + "/" + name;
}
