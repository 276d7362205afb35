/* Kills its process before or after the N-th call that changes a file, or makes
 * that call fail, so that a test can stop a program at every point at which its
 * output differs.
 *
 *   LD_PRELOAD=kill_at.so CODESEAL_KILL_AT=N CODESEAL_KILL_AFTER=0|1 PROGRAM
 *   LD_PRELOAD=kill_at.so CODESEAL_KILL_AT=N CODESEAL_FAIL_WITH=ERRNO PROGRAM
 *
 * CODESEAL_NO_EXCHANGE=1 makes renameat2() fail as on older file systems.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static int remaining = -1;

/* Whether this call is the one; the process ends here when it is to end before
 * the call. */
static int is_the_one(void) {
  pthread_mutex_lock(&mutex);
  if (remaining < 0) {
    const char* at = getenv("CODESEAL_KILL_AT");
    remaining = at == NULL ? 0 : atoi(at);
  }
  const int is_it = remaining > 0 && --remaining == 0;
  pthread_mutex_unlock(&mutex);
  if (!is_it) return 0;
  const char* after = getenv("CODESEAL_KILL_AFTER");
  const int fails = getenv("CODESEAL_FAIL_WITH") != NULL;
  if (!fails && (after == NULL || *after != '1')) kill(getpid(), SIGKILL);
  return 1;
}

/* The errno to fail with; 0 when the call is to be made. */
static int fault(void) {
  const char* text = getenv("CODESEAL_FAIL_WITH");
  return text == NULL ? 0 : atoi(text);
}

#define FORWARD(type, failed, name, parameters, arguments)                \
  type name parameters {                                                  \
    type(*next) parameters = (type(*) parameters)dlsym(RTLD_NEXT, #name); \
    const int last = is_the_one();                                        \
    if (last && fault() != 0) {                                           \
      errno = fault();                                                    \
      return failed;                                                      \
    }                                                                     \
    const type result = next arguments;                                   \
    if (last) kill(getpid(), SIGKILL);                                    \
    return result;                                                        \
  }

FORWARD(int, -1, mkostemp, (char* name, int flags), (name, flags))
FORWARD(int, -1, mkostemp64, (char* name, int flags), (name, flags))
FORWARD(char*, NULL, mkdtemp, (char* name), (name))
FORWARD(int, -1, mkdir, (const char* path, mode_t mode), (path, mode))
FORWARD(int, -1, link, (const char* from, const char* to), (from, to))
FORWARD(int, -1, fchmod, (int fd, mode_t mode), (fd, mode))
FORWARD(int, -1, ftruncate, (int fd, off_t size), (fd, size))
FORWARD(int, -1, ftruncate64, (int fd, off64_t size), (fd, size))
FORWARD(ssize_t, -1, pwrite, (int fd, const void* bytes, size_t size, off_t to),
        (fd, bytes, size, to))
FORWARD(ssize_t, -1, pwrite64,
        (int fd, const void* bytes, size_t size, off64_t to),
        (fd, bytes, size, to))
FORWARD(ssize_t, -1, copy_file_range,
        (int in, off64_t* from, int out, off64_t* to, size_t size,
         unsigned flags),
        (in, from, out, to, size, flags))
FORWARD(int, -1, fsync, (int fd), (fd))
FORWARD(int, -1, rename, (const char* from, const char* to), (from, to))
FORWARD(int, -1, unlink, (const char* path), (path))
FORWARD(int, -1, unlinkat, (int folder, const char* path, int flags),
        (folder, path, flags))

int renameat2(int from_folder, const char* from, int to_folder, const char* to,
              unsigned flags) {
  if (getenv("CODESEAL_NO_EXCHANGE") != NULL) {
    errno = EINVAL;
    return -1;
  }
  int (*next)(int, const char*, int, const char*, unsigned) =
      (int (*)(int, const char*, int, const char*, unsigned))dlsym(RTLD_NEXT,
                                                                   "renameat2");
  const int last = is_the_one();
  if (last && fault() != 0) {
    errno = fault();
    return -1;
  }
  const int result = next(from_folder, from, to_folder, to, flags);
  if (last) kill(getpid(), SIGKILL);
  return result;
}
