// For threads that may outlive main().

#ifndef CODESEAL_CODESIGN_BASE_THREAD_END_H_
#define CODESEAL_CODESIGN_BASE_THREAD_END_H_

namespace codeseal {

// Frees what libcrypto keeps for the calling thread. It does so by itself when
// a thread ends, but not while the process ends, too. For a detached thread,
// before it says that it is done.
void ReleaseThreadState();

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_BASE_THREAD_END_H_
