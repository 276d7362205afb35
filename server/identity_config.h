// The part of the configuration file that says who may have what signed.
//
//   `identities` -> [ReadIdentity] -> IdentityConfig in ServerConfig
//
// Everything that is wrong goes into the section's report.

#ifndef CODESEAL_SERVER_IDENTITY_CONFIG_H_
#define CODESEAL_SERVER_IDENTITY_CONFIG_H_

#include <vector>

#include "server/config.h"
#include "server/yaml_reader.h"

namespace codeseal {

// Adds an identity. What it names (tokens, authorities, providers, the state)
// must have been read already.
void ReadIdentity(YamlSection& section, ServerConfig& config);

// Adds a rule that a client, an approver or an administrator fulfils.
void ReadPeerRule(YamlSection& section, std::vector<PeerRule>& rules);

// {token: NAME, id: HEX, label: TEXT}; adds a key.
void ReadKeyLocation(YamlSection& section, IdentityVersionConfig& version);

}  // namespace codeseal

#endif  // CODESEAL_SERVER_IDENTITY_CONFIG_H_
