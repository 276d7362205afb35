#include "client/codesign_options.h"

#include <getopt.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <optional>
#include <string_view>
#include <utility>

#include "absl/strings/numbers.h"

namespace codeseal::client {
namespace {

constexpr char kCodesignUsage[] =
    "Usage: codesign -s identity [-fv*] [-o flags] [-r reqs] [-i ident] path "
    "... # sign\n"
    "       codesign -v [-v*] [-R=<req string>|-R <req file path>] "
    "path|[+]pid ... # verify\n"
    "       codesign -d [options] path ... # display contents\n"
    "       codesign -h pid ... # display hosting paths\n"
    "       codesign --remove-signature path ... # remove signatures\n"
    "       codesign --validate-constraint path ... # check constraints\n";

constexpr char kShortOptions[] = ":a:dD:fhi:no:P:r:R:s:v";

// Long options without a letter.
enum CodesignOption : int {
  kAllArchitectures = 256,
  kBundleVersion,
  kCheckExpiration,
  kCheckRevocation,
  kContinue,
  kDeep,
  kDer,
  kDigestAlgorithm,
  kEntitlements,
  kExtractCertificates,
  kFileList,
  kForceLibraryEntitlements,
  kIgnored,          // has no effect here
  kIgnoredArgument,  // the same, with a value
  kIgnoreResources,
  kLaunchConstraintParent,
  kLaunchConstraintResponsible,
  kLaunchConstraintSelf,
  kLibraryConstraint,
  kNoLegacySigning,
  kNoStrict,
  kPrefix,
  kPreserveMetadata,
  kRefused,  // `refusals` says why
  kRefusedArgument,
  kRemoveSignature,
  kRuntimeVersion,
  kSignatureSize,
  kStrict,
  kTeamIdentifier,
  kTimestamp,
  kValidateConstraint,
  kVerify,
  kXml,
};

constexpr option kCodesignOptions[] = {
    {"all-architectures", no_argument, nullptr, kAllArchitectures},
    {"architecture", required_argument, nullptr, 'a'},
    {"bundle-version", required_argument, nullptr, kBundleVersion},
    {"check-expiration", no_argument, nullptr, kCheckExpiration},
    {"check-notarization", no_argument, nullptr, kRefused},
    {"check-revocation", no_argument, nullptr, kCheckRevocation},
    {"continue", no_argument, nullptr, kContinue},
    {"deep", no_argument, nullptr, kDeep},
    {"deep-verify", no_argument, nullptr, kDeep},
    {"der", no_argument, nullptr, kDer},
    {"detached", required_argument, nullptr, 'D'},
    {"detached-database", optional_argument, nullptr, kRefusedArgument},
    {"digest-algorithm", required_argument, nullptr, kDigestAlgorithm},
    {"display", no_argument, nullptr, 'd'},
    {"dryrun", no_argument, nullptr, 'n'},
    {"enforce-constraint-validity", no_argument, nullptr, kIgnored},
    {"entitlements", required_argument, nullptr, kEntitlements},
    {"extract-certificates", optional_argument, nullptr, kExtractCertificates},
    {"file-list", required_argument, nullptr, kFileList},
    {"force", no_argument, nullptr, 'f'},
    {"force-library-entitlements", no_argument, nullptr,
     kForceLibraryEntitlements},
    {"generate-entitlement-der", no_argument, nullptr, kIgnored},
    {"hosting", no_argument, nullptr, 'h'},
    {"identifier", required_argument, nullptr, 'i'},
    {"ignore-resources", no_argument, nullptr, kIgnoreResources},
    {"keychain", required_argument, nullptr, kIgnoredArgument},
    {"launch-constraint-parent", required_argument, nullptr,
     kLaunchConstraintParent},
    {"launch-constraint-responsible", required_argument, nullptr,
     kLaunchConstraintResponsible},
    {"launch-constraint-self", required_argument, nullptr,
     kLaunchConstraintSelf},
    {"library-constraint", required_argument, nullptr, kLibraryConstraint},
    {"no-legacy-signing", no_argument, nullptr, kNoLegacySigning},
    {"no-strict", no_argument, nullptr, kNoStrict},
    {"options", required_argument, nullptr, 'o'},
    {"pagesize", required_argument, nullptr, 'P'},
    {"prefix", required_argument, nullptr, kPrefix},
    {"preserve-metadata", optional_argument, nullptr, kPreserveMetadata},
    {"remove-signature", no_argument, nullptr, kRemoveSignature},
    {"requirements", required_argument, nullptr, 'r'},
    {"resource-rules", required_argument, nullptr, kRefusedArgument},
    {"runtime-version", required_argument, nullptr, kRuntimeVersion},
    {"sign", required_argument, nullptr, 's'},
    {"signature-size", required_argument, nullptr, kSignatureSize},
    {"single-threaded-signing", no_argument, nullptr, kIgnored},
    {"strict", optional_argument, nullptr, kStrict},
    {"strip-disallowed-xattrs", no_argument, nullptr, kIgnored},
    {"team-identifier", required_argument, nullptr, kTeamIdentifier},
    {"test-requirement", required_argument, nullptr, 'R'},
    {"timestamp", optional_argument, nullptr, kTimestamp},
    {"validate-constraint", no_argument, nullptr, kValidateConstraint},
    {"verbose", optional_argument, nullptr, 'v'},
    {"verify", no_argument, nullptr, kVerify},
    {"xml", no_argument, nullptr, kXml},
    {nullptr, 0, nullptr, 0},
};

struct Refusal {
  std::string_view option;
  std::string_view why;
};
constexpr std::array kRefusals = {
    Refusal{"check-notarization",
            "notarization is a Mac's to look up; run "
            "`spctl -a -vv` or `stapler validate` there"},
    Refusal{"detached-database",
            "the database is a Mac's own; use --detached "
            "FILE"},
    Refusal{"resource-rules",
            "custom resource rules are obsolete: no macOS "
            "since 10.9.5 accepts them"},
};

enum class Operation {
  kNone,
  kSign,
  kVerify,
  kDisplay,
  kHost,
  kRemove,
  kCheck
};

// One command line, read but not yet mapped.
struct Options {
  Operation operation = Operation::kNone;
  bool conflicting = false;  // two operations
  int verbosity = 0;
  std::string architecture;
  std::string requirements;
  std::string entitlements;
  bool display_xml = false;
  bool display_der = false;
  std::optional<std::string> certificates_prefix;
  bool deep = false;
  std::string bundle_version;
  std::string detached;
  std::string file_list;
  SignCommand sign;
  VerifyCommand verify;
};

void ChooseOperation(Operation operation, Options& options) {
  options.conflicting |=
      options.operation != Operation::kNone && options.operation != operation;
  options.operation = operation;
}

PrintedText Fault(const std::string& message, ExitCode exit_code) {
  return {"", "codesign: " + Printable(message) + "\n", exit_code};
}

PrintedText CodesignFault(const std::string& message) {
  return {"",
          (message.empty() ? "" : "codesign: " + Printable(message) + "\n") +
              kCodesignUsage,
          ExitCode::kUsage};
}

PrintedText Refused(std::string_view option) {
  for (const Refusal& refusal : kRefusals) {
    if (refusal.option == option) {
      return Fault("--" + std::string(option) + ": " + std::string(refusal.why),
                   ExitCode::kNo);
    }
  }
  return Fault("--" + std::string(option) + " is not possible here",
               ExitCode::kNo);
}

// What getopt(3) left unread after the option that it just refused.
std::string OptionAt(const std::vector<char*>& argv) {
  return argv[static_cast<size_t>(std::max(1, optind - 1))];
}

// Words may be cut short.
constexpr std::array<std::string_view, 4> kStrictWords = {
    "all", "none", "sideband", "symlinks"};
bool IsStrictWord(std::string_view value) {
  return !value.empty() &&
         std::ranges::any_of(kStrictWords, [&](std::string_view word) {
           return word.starts_with(value);
         });
}

// Fills `options`; a complaint when it can't.
std::optional<PrintedText> Read(std::vector<char*>& argv, Options& options,
                                std::vector<std::string>& paths) {
  // getopt(3) keeps its place in globals; 0 makes it start anew.
  optind = 0;
  opterr = 0;
  const int argc = static_cast<int>(argv.size()) - 1;  // less the nullptr
  int index = 0;
  for (int letter = 0;
       (letter = getopt_long(argc, argv.data(), kShortOptions, kCodesignOptions,
                             &index)) != -1;) {
    const std::string value = optarg == nullptr ? "" : optarg;
    switch (letter) {
      case 'a':
        options.architecture = value;
        break;
      case 'd':
        ChooseOperation(Operation::kDisplay, options);
        break;
      case 'D':
        options.detached = value;
        break;
      case 'f':
        options.sign.force = true;
        break;
      case 'h':
        ChooseOperation(Operation::kHost, options);
        break;
      case 'i':
        options.sign.identifier = value;
        break;
      case 'n':
        options.sign.dry_run = true;
        break;
      case 'o':
        options.sign.flags = value;
        break;
      case 'P':
        options.sign.page_size = value;
        break;
      case 'r':
        options.requirements = value;
        break;
      case 'R':
        options.verify.requirement = value;
        break;
      case 's':
        ChooseOperation(Operation::kSign, options);
        options.sign.identity = value;
        break;
      case 'v':
        if (optarg == nullptr) {
          ++options.verbosity;
        } else if (!absl::SimpleAtoi(value, &options.verbosity)) {
          return CodesignFault("--verbose wants a number, not " + value);
        }
        break;
      case kAllArchitectures:
        options.architecture = "all";
        break;
      case kBundleVersion:
        options.bundle_version = value;
        break;
      case kCheckExpiration:
        options.verify.check_expiration = true;
        break;
      case kCheckRevocation:
        options.verify.check_revocation = true;
        break;
      case kContinue:  // every path is tried anyway
      case kIgnored:
      case kIgnoredArgument:
        break;
      case kDeep:
        options.deep = true;
        break;
      case kDigestAlgorithm:
        options.sign.digest_algorithms = value;
        break;
      case kEntitlements:
        options.entitlements = value;
        break;
      case kExtractCertificates:
        options.certificates_prefix = optarg == nullptr ? "codesign" : value;
        break;
      case kFileList:
        options.file_list = value;
        break;
      case kForceLibraryEntitlements:
        options.sign.force_library_entitlements = true;
        break;
      case kIgnoreResources:
        options.verify.ignore_resources = true;
        break;
      case kLaunchConstraintParent:
        options.sign.launch_constraint_parent = value;
        break;
      case kLaunchConstraintResponsible:
        options.sign.launch_constraint_responsible = value;
        break;
      case kLaunchConstraintSelf:
        options.sign.launch_constraint_self = value;
        break;
      case kLibraryConstraint:
        options.sign.library_constraint = value;
        break;
      case kNoLegacySigning:
        options.sign.legacy_signing = false;
        break;
      case kNoStrict:
        options.verify.no_strict = true;
        break;
      case kPrefix:
        options.sign.identifier_prefix = value;
        break;
      case kPreserveMetadata:
        // Without a list, everything that the manual names.
        options.sign.preserve_metadata =
            optarg == nullptr ? "identifier,entitlements,requirements,flags,"
                                "runtime,launch-constraints,library-constraints"
                              : value;
        break;
      case kRefused:
      case kRefusedArgument:
        return Refused(kCodesignOptions[index].name);
      case kRemoveSignature:
        ChooseOperation(Operation::kRemove, options);
        break;
      case kRuntimeVersion:
        options.sign.runtime_version = value;
        break;
      case kSignatureSize:
        options.sign.signature_size.emplace();
        if (!absl::SimpleAtoi(value, &*options.sign.signature_size)) {
          return CodesignFault("--signature-size wants a number, not " + value);
        }
        break;
      case kStrict:
        // Alone it asks for what is the default.
        if (optarg == nullptr) break;
        if (!IsStrictWord(value)) {
          return CodesignFault("invalid strict option - " + value);
        }
        options.verify.strict.push_back(value);
        break;
      case kTeamIdentifier:
        return Fault(
            "--team-identifier: the Team ID is that of the identity's "
            "certificate",
            ExitCode::kNo);
      case kTimestamp:
        options.sign.timestamp = optarg == nullptr ? "default" : value;
        break;
      case kValidateConstraint:
        ChooseOperation(Operation::kCheck, options);
        break;
      case kVerify:
        ChooseOperation(Operation::kVerify, options);
        break;
      case kDer:
        options.display_der = true;
        break;
      case kXml:
        options.display_xml = true;
        break;
      case ':':
        return CodesignFault("option requires an argument -- " +
                             OptionAt(argv));
      default:
        return CodesignFault("unrecognized option " + OptionAt(argv));
    }
  }
  paths.assign(argv.begin() + optind, argv.end() - 1);
  return std::nullopt;
}

// What --verify takes for a process: a number, or one after "+".
bool IsProcess(std::string_view path) {
  if (path.starts_with('+')) path.remove_prefix(1);
  return !path.empty() && std::ranges::all_of(path, [](unsigned char c) {
    return std::isdigit(c) != 0;
  });
}

ShowCommand Display(Options& options) {
  ShowCommand show;
  show.architecture = options.architecture;
  show.requirements_path = options.requirements;
  show.xml = options.display_xml;
  show.der = options.display_der;
  show.bundle_version = options.bundle_version;
  show.detached_path = options.detached;
  show.file_list_path = options.file_list;
  show.certificates_prefix = options.certificates_prefix.value_or("");
  // ":FILE" is the old way to ask for XML.
  if (options.entitlements.starts_with(':')) {
    show.xml = true;
    options.entitlements.erase(0, 1);
  }
  show.entitlements_path = options.entitlements;
  return show;
}

}  // namespace

Invocation ParseCodesign(const std::vector<std::string>& arguments) {
  Invocation invocation;
  invocation.output.style = OutputStyle::kApple;
  std::vector<std::string> words = {"codesign"};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);

  Options options;
  std::vector<std::string> paths;
  if (auto fault = Read(argv, options, paths)) {
    invocation.command = *std::move(fault);
    return invocation;
  }
  // -v alone verifies; beside an operation it only says more.
  if (options.operation == Operation::kNone && options.verbosity > 0) {
    options.operation = Operation::kVerify;
    --options.verbosity;
  }
  invocation.output.verbosity = options.verbosity;
  if (options.conflicting || options.operation == Operation::kNone ||
      paths.empty()) {
    invocation.command = CodesignFault("");
    return invocation;
  }
  switch (options.operation) {
    case Operation::kSign:
      invocation.name = "sign";
      // Nobody stamps ad-hoc signatures, whatever a script asks for.
      if (options.sign.identity == "-") options.sign.timestamp = "none";
      options.sign.deep = options.deep;
      options.sign.strict = !options.verify.no_strict;
      options.sign.bundle_version = options.bundle_version;
      options.sign.detached_path = options.detached;
      options.sign.file_list_path = options.file_list;
      options.sign.requirement = options.requirements;
      options.sign.entitlements_path = options.entitlements;
      options.sign.paths = std::move(paths);
      invocation.command = std::move(options.sign);
      break;
    case Operation::kVerify:
      invocation.name = "verify";
      if (std::ranges::any_of(paths, IsProcess)) {
        invocation.command = Fault(
            "only a Mac can verify running processes; give the path of "
            "the code",
            ExitCode::kNo);
        break;
      }
      // "valid on disk" is told from the second v on.
      --invocation.output.verbosity;
      options.verify.deep = options.deep;
      options.verify.bundle_version = options.bundle_version;
      options.verify.detached_path = options.detached;
      options.verify.paths = std::move(paths);
      invocation.command = std::move(options.verify);
      break;
    case Operation::kDisplay: {
      invocation.name = "show";
      ShowCommand show = Display(options);
      show.paths = std::move(paths);
      invocation.command = std::move(show);
      break;
    }
    case Operation::kRemove:
      invocation.name = "strip";
      invocation.command = StripCommand{std::move(paths)};
      break;
    case Operation::kHost:
      invocation.command = Fault(
          "-h: hosting paths are those of processes on a Mac; to see a "
          "file's signature use -d",
          ExitCode::kNo);
      break;
    case Operation::kCheck:
      invocation.name = "constraint";
      invocation.command = CheckConstraintCommand{std::move(paths)};
      break;
    case Operation::kNone:
      break;
  }
  return invocation;
}

}  // namespace codeseal::client
