/* A disk that fails, hangs or is the last thing that a process sees, on
 * command. Preloaded into the program under test.
 *
 *   CODESEAL_IO_UNDER   files whose path begins so are meant, unless the script
 *                       names a file
 *   CODESEAL_IO_SCRIPT  a file with one line, read before each such call:
 *
 *     CALL fail ERRNO [SKIP]   from the (SKIP+1)th call on it fails
 *     CALL hang [0 [SKIP]]     it waits until the script says otherwise
 *     CALL kill N              SIGKILL before the Nth call
 *     CALL kill-after N        SIGKILL after the Nth call
 *
 * CALL is pwrite, fsync, fdatasync, renameat, mkdirat, or * for all of them;
 * CALL@FILE means those on files of this name (of renameat and mkdirat: in
 * folders of this name). Calls that are meant are counted since the script
 * changed. Replace the script by rename. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static long count_of_call = 0;
static struct timespec counted_script;

/* `file` may be NULL. */
static int is_meant(int fd, const char* file) {
  const char* under = getenv("CODESEAL_IO_UNDER");
  char link[64];
  char path[4096];
  if (under == NULL) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  const ssize_t size = readlink(link, path, sizeof path - 1);
  if (size < 0) return 0;
  path[size] = '\0';
  if (file == NULL) return strncmp(path, under, strlen(under)) == 0;
  const char* slash = strrchr(path, '/');
  return slash != NULL && strcmp(slash + 1, file) == 0;
}

/* What the script says now about this call; 0: nothing. */
static int read_script(const char* call, int called_fd, char action[32],
                       long* first, long* second) {
  const char* script = getenv("CODESEAL_IO_SCRIPT");
  char line[128] = "";
  char name[64] = "";
  struct stat now;
  *first = 0;
  *second = 0;
  if (script == NULL) return 0;
  const int fd = open(script, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  const ssize_t size = read(fd, line, sizeof line - 1);
  const int known = fstat(fd, &now) == 0;
  close(fd);
  pthread_mutex_lock(&mutex);
  if (known && (now.st_mtim.tv_sec != counted_script.tv_sec ||
                now.st_mtim.tv_nsec != counted_script.tv_nsec)) {
    counted_script = now.st_mtim;
    count_of_call = 0;
  }
  pthread_mutex_unlock(&mutex);
  if (size <= 0) return 0;
  if (sscanf(line, "%63s %31s %ld %ld", name, action, first, second) < 2) {
    return 0;
  }
  char* file = strchr(name, '@');
  if (file != NULL) *file++ = '\0';
  return (strcmp(name, "*") == 0 || strcmp(name, call) == 0) &&
         is_meant(called_fd, file);
}

/* The errno to fail with; 0: make the call, and die after it if *dies. */
static int before(const char* call, int fd, int* dies) {
  char action[32] = "";
  long first = 0;
  long second = 0;
  *dies = 0;
  if (!read_script(call, fd, action, &first, &second)) return 0;
  pthread_mutex_lock(&mutex);
  const long count = ++count_of_call;
  pthread_mutex_unlock(&mutex);
  if (strcmp(action, "fail") == 0) return count > second ? (int)first : 0;
  if (strcmp(action, "kill") == 0 && count == first) kill(getpid(), SIGKILL);
  if (strcmp(action, "kill-after") == 0) *dies = count == first;
  while (strcmp(action, "hang") == 0 && count > second) {
    usleep(10000);
    if (!read_script(call, fd, action, &first, &second)) break;
  }
  return 0;
}

#define FORWARD(type, name, call, parameters, arguments, fd)              \
  type name parameters {                                                  \
    type(*next) parameters = (type(*) parameters)dlsym(RTLD_NEXT, #name); \
    int dies = 0;                                                         \
    const int fault = before(call, fd, &dies);                            \
    if (fault != 0) {                                                     \
      errno = fault;                                                      \
      return -1;                                                          \
    }                                                                     \
    const type result = next arguments;                                   \
    if (dies) kill(getpid(), SIGKILL);                                    \
    return result;                                                        \
  }

FORWARD(ssize_t, pwrite, "pwrite",
        (int fd, const void* bytes, size_t size, off_t to),
        (fd, bytes, size, to), fd)
FORWARD(ssize_t, pwrite64, "pwrite",
        (int fd, const void* bytes, size_t size, off64_t to),
        (fd, bytes, size, to), fd)
FORWARD(int, fsync, "fsync", (int fd), (fd), fd)
FORWARD(int, fdatasync, "fdatasync", (int fd), (fd), fd)
FORWARD(int, renameat, "renameat",
        (int from_fd, const char* from, int to_fd, const char* to),
        (from_fd, from, to_fd, to), from_fd)
FORWARD(int, mkdirat, "mkdirat", (int fd, const char* path, mode_t mode),
        (fd, path, mode), fd)
