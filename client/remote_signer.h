// Signs through codeseald. Only CodeDirectories and the blobs that they bind
// leave this machine.

#ifndef CODESEAL_CLIENT_REMOTE_SIGNER_H_
#define CODESEAL_CLIENT_REMOTE_SIGNER_H_

#include <grpcpp/channel.h>

#include <memory>
#include <string>
#include <vector>

#include "client/connection.h"
#include "client/sign_options.h"
#include "client/signer.h"

namespace codeseal::client {

struct RemoteSignerOptions {
  CallLimits limits;
  TimestampWish timestamp = {};
  std::string grant = {};      // id of the grant that allows it
  bool validate_only = false;  // --dry-run: the server judges, no key is used
};

// All slices go in one stream; what is larger than one message goes in chunks.
// When the stream breaks, the slices without an answer are sent again under
// the same request ids, so that none is signed twice; only one whose server
// died over it gets a new id. Several channels, at least one, are replicas:
// when one is unavailable the next is asked.
std::unique_ptr<Signer> MakeRemoteSigner(
    std::vector<std::shared_ptr<grpc::Channel>> channels,
    const RemoteSignerOptions& options);

}  // namespace codeseal::client

#endif  // CODESEAL_CLIENT_REMOTE_SIGNER_H_
