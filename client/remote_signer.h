// Signs through codeseald. Only CodeDirectories and the blobs that they bind
// leave this machine.

#ifndef CODESEAL_CLIENT_REMOTE_SIGNER_H_
#define CODESEAL_CLIENT_REMOTE_SIGNER_H_

#include <grpcpp/channel.h>

#include <memory>

#include "client/connection.h"
#include "client/sign_options.h"
#include "client/signer.h"

namespace codeseal::client {

struct RemoteSignerOptions {
  CallLimits limits;
  TimestampWish timestamp = {};
  bool validate_only = false;  // --dry-run: the server judges, no key is used
};

// All slices go in one stream; what is larger than one message goes in chunks.
// When the stream breaks, the slices without an answer are sent again under
// the same request ids, so that none is signed twice.
std::unique_ptr<Signer> MakeRemoteSigner(std::shared_ptr<grpc::Channel> channel,
                                         const RemoteSignerOptions& options);

}  // namespace codeseal::client

#endif  // CODESEAL_CLIENT_REMOTE_SIGNER_H_
