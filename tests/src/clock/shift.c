// Moves the clocks of the process that preloads it by as many seconds as the file in WALL_CLOCK_OFFSET says, at any time:
// its first number the wall clock alone, as when a machine's clock is set, its second the monotonic clock, by which
// time-outs run.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t (*offset)[2];

__attribute__((constructor)) static void map(void) {
  const char *path = getenv("WALL_CLOCK_OFFSET");
  int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
  if (file < 0) return;
  void *page = mmap(NULL, sizeof *offset, PROT_READ, MAP_SHARED, file, 0);
  if (page != MAP_FAILED) offset = page;
  close(file);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
  // Not the C library's own: that is the function which this one stands in for.
  int result = (int)syscall(SYS_clock_gettime, clock, now);
  if (result != 0 || !offset) return result;
  if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) now->tv_sec += (*offset)[0];
  if (clock == CLOCK_MONOTONIC || clock == CLOCK_MONOTONIC_COARSE) now->tv_sec += (*offset)[1];
  return result;
}
