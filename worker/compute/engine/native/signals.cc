// Keeps handlers of signals off the thread that loads TensorFlow, and off the threads that it starts.
// A handler that interrupts a matrix product of oneDNN (AVX-512, in a captured graph) overwrites memory:
// with a few thousand handled signals a second, a process dies of a corrupted heap while it starts. One
// signal, as Ctrl-C sends it to all processes of a terminal, may come at such a moment as well.
//
// A signal to the process is then handled on one of its other threads: those of V8 and of libuv, which do
// not compute, and pass it on to the event loop. Faults of the thread itself are never held back.

#include <csignal>
#include <initializer_list>
#include <pthread.h>

namespace {

const bool blocked = [] {
  sigset_t signals;
  sigfillset(&signals);
  for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS})
    sigdelset(&signals, fault);
  return pthread_sigmask(SIG_BLOCK, &signals, nullptr) == 0;
}();

}  // namespace
