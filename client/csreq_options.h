// The command line of Apple's csreq, for when codeseal is invoked by that name.
//
// Spec: csreq(1).

#ifndef CODESEAL_CLIENT_CSREQ_OPTIONS_H_
#define CODESEAL_CLIENT_CSREQ_OPTIONS_H_

#include <string>
#include <vector>

#include "client/options.h"

namespace codeseal::client {

// csreq -r REQ -t, csreq -r REQ -b FILE; "-" is standard input or output.
Invocation ParseCsreq(const std::vector<std::string>& arguments);

}  // namespace codeseal::client

#endif  // CODESEAL_CLIENT_CSREQ_OPTIONS_H_
