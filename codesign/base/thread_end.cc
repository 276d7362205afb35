#include "codesign/base/thread_end.h"

#include <openssl/crypto.h>

namespace codeseal {

void ReleaseThreadState() { OPENSSL_thread_stop(); }

}  // namespace codeseal
