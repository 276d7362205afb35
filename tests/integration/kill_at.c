/* Kills its process before or after the N-th call that changes a file, so that
 * a test can stop a program at every point at which its output differs.
 *
 *   LD_PRELOAD=kill_at.so CODESEAL_KILL_AT=N CODESEAL_KILL_AFTER=0|1 PROGRAM
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>

static int remaining = -1;

/* Whether this call is the one; the process ends here when it is to end before
 * the call. */
static int is_the_one(void) {
  if (remaining < 0) {
    const char* at = getenv("CODESEAL_KILL_AT");
    remaining = at == NULL ? 0 : atoi(at);
  }
  if (remaining == 0 || --remaining > 0) return 0;
  const char* after = getenv("CODESEAL_KILL_AFTER");
  if (after == NULL || *after != '1') kill(getpid(), SIGKILL);
  return 1;
}

#define FORWARD(type, name, parameters, arguments)                        \
  type name parameters {                                                  \
    type(*next) parameters = (type(*) parameters)dlsym(RTLD_NEXT, #name); \
    const int last = is_the_one();                                        \
    const type result = next arguments;                                   \
    if (last) kill(getpid(), SIGKILL);                                    \
    return result;                                                        \
  }

FORWARD(int, mkostemp, (char* name, int flags), (name, flags))
FORWARD(int, mkostemp64, (char* name, int flags), (name, flags))
FORWARD(int, fchmod, (int fd, mode_t mode), (fd, mode))
FORWARD(int, ftruncate, (int fd, off_t size), (fd, size))
FORWARD(int, ftruncate64, (int fd, off64_t size), (fd, size))
FORWARD(ssize_t, pwrite, (int fd, const void* bytes, size_t size, off_t to),
        (fd, bytes, size, to))
FORWARD(ssize_t, pwrite64, (int fd, const void* bytes, size_t size, off64_t to),
        (fd, bytes, size, to))
FORWARD(ssize_t, copy_file_range,
        (int in, off64_t* from, int out, off64_t* to, size_t size,
         unsigned flags),
        (in, from, out, to, size, flags))
FORWARD(int, fsync, (int fd), (fd))
FORWARD(int, rename, (const char* from, const char* to), (from, to))
FORWARD(int, unlink, (const char* path), (path))
