/* Small files of the system, and folders of clients. */
#pragma once

#include <cstddef>
#include <string>

/* Returns the first `most` bytes of a file, or nothing where it cannot be read. */
std::string read_text(const std::string &path, size_t most = 1 << 16);

/* Returns a new folder in `parent`, or nothing. */
std::string make_folder(const std::string &parent);

void remove_folder(const std::string &path);

/* Returns `name` inside of `folder`; throws Refusal if it leads out of it. */
std::string path_inside(const std::string &folder, const std::string &name);
