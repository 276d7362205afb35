// What callers are told of an identity version.
//
//   IdentityVersion -> [DescribeVersion] -> v1.Identity

#ifndef CODESEAL_SERVER_IDENTITY_WIRE_H_
#define CODESEAL_SERVER_IDENTITY_WIRE_H_

#include <string>
#include <vector>

#include "absl/time/time.h"
#include "codeseal/v1/identity.pb.h"
#include "server/identity_store.h"

namespace codeseal {

v1::Identity DescribeVersion(const IdentityVersion& version, absl::Time now);

// What somebody should do something about soon; nothing for versions that will
// not sign again.
std::vector<std::string> WarningsAbout(const IdentityVersion& version,
                                       absl::Time now);

}  // namespace codeseal

#endif  // CODESEAL_SERVER_IDENTITY_WIRE_H_
