// Files mapped into memory: see addon.h.
#include "addon.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <stdexcept>
#include <string>
#include <vector>
#include "../../../shared/tensors/native/arguments.h"

#if defined(__linux__) && !defined(MADV_POPULATE_READ)
#define MADV_POPULATE_READ 22
#endif

namespace {

struct Failure : std::runtime_error {
  const char* code;
  Failure(const char* code, const std::string& text) : std::runtime_error(text), code(code) {}
};

Failure systemFailure(const std::string& what) {
  const char* code = errno == ENOENT ? "ENOENT" : errno == ENOMEM ? "ENOMEM" : errno == EACCES ? "EACCES" : "EIO";
  return Failure(code, what + ": " + strerror(errno));
}

void demand(napi_status status) { ::demand(status == napi_ok, "the runtime refuses a value"); }

char* addressOf(const Arguments& arguments, size_t index) {
  return reinterpret_cast<char*>(arguments.wholeNumber(index));
}

size_t pageByteCount() {
  static const size_t count = sysconf(_SC_PAGESIZE);
  return count;
}

class OpenFile {
 public:
  OpenFile(const std::string& path, size_t byteCount) : descriptor_(open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
    if (descriptor_ < 0) throw systemFailure("the file cannot be opened");
    struct stat status;
    const bool isSeen = fstat(descriptor_, &status) == 0;
    if (isSeen && S_ISREG(status.st_mode) && static_cast<size_t>(status.st_size) == byteCount) return;
    close(descriptor_);
    throw Failure("ESIZE", isSeen ? std::to_string(status.st_size) + " bytes" : "the file cannot be looked at");
  }
  ~OpenFile() { close(descriptor_); }

  void map(char* start, size_t byteCount) const {
    if (byteCount == 0) return;
    if (mmap(start, byteCount, PROT_READ, MAP_SHARED | MAP_FIXED, descriptor_, 0) == MAP_FAILED)
      throw systemFailure("the file cannot be mapped");
  }

  void read(char* target, size_t offset, size_t byteCount) const {
    while (byteCount > 0) {
      const ssize_t count = pread(descriptor_, target, byteCount, static_cast<off_t>(offset));
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) throw systemFailure("the file cannot be read");
      if (count == 0) throw Failure("ESIZE", "the file has become shorter");
      target += count;
      offset += count;
      byteCount -= count;
    }
  }

 private:
  const int descriptor_;
};

// A failure that a caller tells from others has a code.
template <typename Work>
napi_value coded(napi_env env, napi_callback_info info, Work work) {
  return guarded(env, info, [env, work](const Arguments& arguments) -> napi_value {
    try {
      return work(arguments);
    } catch (const Failure& failure) {
      napi_throw_error(env, failure.code, failure.what());
      return nullptr;
    }
  });
}

// Without pages, and without room that other memory could take.
void reserveAt(char* start, size_t byteCount) {
  if (mmap(start, byteCount, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED)
    throw systemFailure("the pages cannot be given back");
}

// Large pages of a file are mapped whole where they lie at a multiple of their size.
const size_t LARGE_PAGE_BYTE_COUNT = size_t(1) << 21;

// reserve(byteCount): the address of a range that nothing else comes into, and that cannot be read. One with room for a large
// page begins where such a page does.
napi_value reserve(napi_env env, napi_callback_info info) {
  return coded(env, info, [env](const Arguments& arguments) {
    const size_t byteCount = arguments.wholeNumber(0);
    const size_t spare = byteCount < LARGE_PAGE_BYTE_COUNT ? 0 : LARGE_PAGE_BYTE_COUNT;
    void* range = mmap(nullptr, byteCount + spare, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (range == MAP_FAILED) throw systemFailure("there is no room for the mapping");
    uintptr_t start = reinterpret_cast<uintptr_t>(range);
    if (spare > 0) {
      const size_t before = (LARGE_PAGE_BYTE_COUNT - start % LARGE_PAGE_BYTE_COUNT) % LARGE_PAGE_BYTE_COUNT;
      if (before > 0) munmap(range, before);
      start += before;
      if (before < spare) munmap(reinterpret_cast<void*>(start + byteCount), spare - before);
    }
    napi_value address;
    demand(napi_create_double(env, static_cast<double>(start), &address));
    return address;
  });
}

// map(address, capacity, paths, byteCounts): into a reserved range, which is as before where this fails. The files lie one
// after the other. From the first one on that ends within a page, they are read into memory of this process: those behind the
// first files of an array are small.
napi_value map(napi_env env, napi_callback_info info) {
  return coded(env, info, [](const Arguments& arguments) -> napi_value {
    char* const start = addressOf(arguments, 0);
    const size_t capacity = arguments.wholeNumber(1);
    const std::vector<napi_value> paths = arguments.list(2);
    const std::vector<napi_value> sizes = arguments.list(3);
    if (paths.empty() || paths.size() != sizes.size()) throw Failure("EINVAL", "every file has a path and a size");
    size_t total = 0;
    for (napi_value size : sizes) total += arguments.wholeNumberOf(size);
    if (total > capacity) throw Failure("EINVAL", "the files are larger than their range");
    try {
      char* next = start;
      char* readFrom = nullptr;
      for (size_t place = 0; place < paths.size(); ++place) {
        const size_t byteCount = arguments.wholeNumberOf(sizes[place]);
        const OpenFile file(arguments.textOf(paths[place]), byteCount);
        const bool isLast = place + 1 == paths.size();
        const size_t mapped = readFrom != nullptr ? 0 : isLast ? byteCount : byteCount - byteCount % pageByteCount();
        file.map(next, mapped);
        if (readFrom == nullptr && mapped < byteCount) {
          readFrom = next + mapped;
          const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
          if (mmap(readFrom, start + total - readFrom, PROT_READ | PROT_WRITE, flags, -1, 0) == MAP_FAILED)
            throw systemFailure("there is no room for the files");
        }
        file.read(next + mapped, mapped, byteCount - mapped);
        next += byteCount;
      }
      if (readFrom != nullptr && mprotect(readFrom, start + total - readFrom, PROT_READ) != 0)
        throw systemFailure("the files cannot be protected");
#ifdef MADV_HUGEPAGE
      madvise(start, total, MADV_HUGEPAGE);
#endif
    } catch (...) {
      reserveAt(start, capacity);
      throw;
    }
    return nullptr;
  });
}

// populate(address, byteCount): brings the pages into memory. Fails where the file has become shorter.
napi_value populate(napi_env env, napi_callback_info info) {
  return coded(env, info, [](const Arguments& arguments) -> napi_value {
    char* const start = addressOf(arguments, 0);
    const size_t byteCount = arguments.wholeNumber(1);
#ifdef MADV_POPULATE_READ
    if (madvise(start, byteCount, MADV_POPULATE_READ) == 0) return nullptr;
    // Kernels before Linux 5.14 do not know the advice.
    if (errno != EINVAL) throw systemFailure("the pages cannot be read");
#endif
    for (size_t offset = 0; offset < byteCount; offset += pageByteCount())
      static_cast<void>(*static_cast<volatile const char*>(start + offset));
    return nullptr;
  });
}

// view(address, byteCount): an ArrayBuffer over the bytes, which does not own them.
napi_value view(napi_env env, napi_callback_info info) {
  return coded(env, info, [env](const Arguments& arguments) {
    napi_value buffer;
    const auto keep = [](napi_env, void*, void*) {};
    if (napi_create_external_arraybuffer(env, addressOf(arguments, 0), arguments.wholeNumber(1), keep, nullptr, &buffer) != napi_ok)
      throw Failure("ENOTSUP", "this runtime has no external array buffers");
    return buffer;
  });
}

// detach(buffer): from then on its views have no elements.
napi_value detach(napi_env env, napi_callback_info info) {
  return coded(env, info, [env](const Arguments& arguments) -> napi_value {
    demand(napi_detach_arraybuffer(env, arguments.value(0)));
    return nullptr;
  });
}

// vacate(address, byteCount): gives whole pages back; their addresses stay reserved, and cannot be read.
napi_value vacate(napi_env env, napi_callback_info info) {
  return coded(env, info, [](const Arguments& arguments) -> napi_value {
    reserveAt(addressOf(arguments, 0), arguments.wholeNumber(1));
    return nullptr;
  });
}

}  // namespace

void defineMapping(napi_env env, napi_value exports) {
  defineFunctions(env, exports,
                  {{"reserve", reserve},
                   {"map", map},
                   {"populate", populate},
                   {"view", view},
                   {"detach", detach},
                   {"vacate", vacate}});
}
