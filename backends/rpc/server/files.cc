#include "files.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <system_error>

#include "call.h"
#include "descriptor.h"
#include "text.h"

namespace fs = std::filesystem;

namespace {

const std::string PREFIX = "gmpq-board-";

/* Lets the owner list and change a folder and all folders in it. */
void open_folders(const std::string &path) {
  chmod(path.c_str(), S_IRWXU);
  std::error_code error;
  for (const fs::directory_entry &entry : fs::directory_iterator(path, error))
    if (entry.symlink_status(error).type() == fs::file_type::directory)
      open_folders(entry.path().string());
}

/* Returns the lock of a folder, or none if another server has it. */
Descriptor lock_folder(const std::string &path) {
  Descriptor folder(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  bool taken = folder.open() && flock(folder.number(), LOCK_EX | LOCK_NB) == 0;
  return taken ? std::move(folder) : Descriptor();
}

bool is_own_folder(const std::string &path) {
  struct stat found;
  return lstat(path.c_str(), &found) == 0 && S_ISDIR(found.st_mode) && found.st_uid == geteuid();
}

}  // namespace

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

Folder make_folder(const std::string &parent) {
  for (int attempt = 0; attempt < 3; attempt++) { /* a starting server may have it in its hands */
    std::string path = parent + "/" + PREFIX + "XXXXXX";
    if (mkdtemp(path.data()) == nullptr) break;
    Descriptor lock = lock_folder(path);
    if (lock.open() && is_own_folder(path)) return {path, std::move(lock)};
  }
  return {};
}

void remove_folder(const std::string &path) {
  open_folders(path);
  std::error_code error;
  fs::remove_all(path, error);
  if (error) log_line(path + ": cannot be removed: " + error.message());
}

void remove_unused_folders(const std::string &parent) {
  std::error_code error;
  for (const fs::directory_entry &entry : fs::directory_iterator(parent, error)) {
    const std::string path = entry.path().string();
    if (entry.path().filename().string().rfind(PREFIX, 0) != 0 || !is_own_folder(path)) continue;
    if (access(path.c_str(), R_OK) != 0) chmod(path.c_str(), S_IRWXU); /* a client closed it */
    if (!lock_folder(path).open()) continue;
    log_line(path + " removed: its server has ended");
    remove_folder(path);
  }
}

std::string path_inside(const std::string &folder, const std::string &name) {
  bool inside = !name.empty() && name[0] != '/' && name.find('\0') == std::string::npos;
  for (const std::string &part : split(name, '/')) inside = inside && part != "..";
  if (!inside)
    throw Refusal("path " + quoted(name) + " leads out of the session's folder: give a plain name");
  return folder + "/" + name;
}
