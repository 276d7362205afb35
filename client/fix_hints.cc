#include "client/fix_hints.h"

namespace codeseal::client {

std::string_view FixHint(Reason reason) {
  switch (reason) {  // No default: -Wswitch-enum must flag a new reason.
    case v1::REASON_UNSPECIFIED:
      break;

    case v1::REASON_TRUNCATED:
      return "the file ends too early: build or copy it again, and compare its "
             "size with the original";
    case v1::REASON_BAD_MAGIC:
      return "check that this is the file you meant; codeseal signs Mach-O "
             "executables, libraries and bundles";
    case v1::REASON_BLOB_LENGTH_OUT_OF_RANGE:
    case v1::REASON_SLOT_TABLE_OUT_OF_RANGE:
    case v1::REASON_BAD_SUPER_BLOB:
      return "the existing signature is damaged: sign the code again with -f, "
             "or build it again";
    case v1::REASON_UNSUPPORTED_DIGEST:
      return "sign it again with --digest-algorithm sha256";
    case v1::REASON_UNSUPPORTED_PAGE_SIZE:
      return "use --page-size 4096, 16384 or none";
    case v1::REASON_BAD_IDENTIFIER:
      return "give a plain identifier with -i, such as com.example.tool";
    case v1::REASON_UNSUPPORTED_VERSION:
      return "update codeseal, or sign the code again with this version";
    case v1::REASON_BAD_TEAM_IDENTIFIER:
      return "check the Team ID of the certificate; it is ten letters and "
             "digits";
    case v1::REASON_CODE_LIMIT_MISMATCH:
      return "the file changed after it was signed: sign it again with -f";
    case v1::REASON_NOT_MACH_O:
      return "check that this is the file you meant; codeseal signs Mach-O "
             "executables, libraries and bundles";
    case v1::REASON_BAD_LOAD_COMMAND:
    case v1::REASON_BAD_SEGMENT:
      return "the linker's output is damaged: link it again; otool -l or "
             "llvm-objdump --macho -p shows the load commands";
    case v1::REASON_BAD_FAT_HEADER:
    case v1::REASON_OVERLAPPING_RANGES:
      return "make the universal file again with lipo -create from its thin "
             "files";
    case v1::REASON_UNSUPPORTED_FILE_TYPE:
      return "sign the linked executable or library, not an object file or an "
             "archive";
    case v1::REASON_FILE_TOO_BIG:
      return "make the file smaller: Apple's format holds less than 4 GiB for "
             "each file";
    case v1::REASON_BAD_REQUIREMENT:
      return "compile the requirement again with `codeseal requirement "
             "compile`";
    case v1::REASON_REQUIREMENT_SYNTAX:
      return "correct the text at the place named above; `codeseal requirement "
             "compile` tries it without signing";
    case v1::REASON_BAD_ENTITLEMENTS:
      return "check the entitlements file with plutil -lint; it must be an XML "
             "property list with a dictionary at the top";
    case v1::REASON_BAD_CMS:
      return "the stored signature is damaged: sign the code again with -f";
    case v1::REASON_BAD_CERTIFICATE:
      return "give PEM or DER certificates; `openssl x509 -text -in FILE` "
             "shows whether a file is one";
    case v1::REASON_BAD_REVOCATION_DATA:
      return "--crl takes X.509 revocation lists, --ocsp OCSP responses; both "
             "as DER or PEM";
    case v1::REASON_BAD_PLIST:
      return "check the property list with plutil -lint";

    case v1::REASON_NO_HEADER_ROOM:
      return "link with -headerpad 0x100 (ld: -Wl,-headerpad,0x100), so that "
             "the load command of a signature fits";
    case v1::REASON_ALREADY_SIGNED:
      return "use -f to replace the signature";
    case v1::REASON_NOT_SIGNED:
      return "sign it first with `codeseal sign`";
    case v1::REASON_SIGNATURE_NOT_LAST:
      return "strip or post-process before signing, not after; then sign the "
             "linker's output again";
    case v1::REASON_SIGNATURE_TOO_LARGE:
      return "reserve more room with --signature-size BYTES";
    case v1::REASON_BAD_OPTION:
      return "see `codeseal sign --help` for the values of this option";
    case v1::REASON_INCOMPLETE_CHAIN:
      return "add the missing issuer certificates: --chain PEM for a local "
             "token, the identity's chain file on the server";
    case v1::REASON_UNSUPPORTED_CODE:
      return "sign the Mach-O files inside one by one; this version of "
             "codeseal handles single Mach-O files only";
    case v1::REASON_LIBRARY_VALIDATION_I386:
      return "remove the i386 slice with lipo -remove i386, or drop the "
             "library-validation flag";
    case v1::REASON_UNEXPECTED_DATA:
      return "remove what was appended to the file after linking; Apple's "
             "tools "
             "refuse such code, too";

    case v1::REASON_TOKEN_DOWN:
      return "try again in a moment; if it stays so, check that the token is "
             "connected (`codeseald token probe` on the token's machine)";
    case v1::REASON_TOKEN_NOT_FOUND:
      return "check the token's label and serial; `codeseald token list` shows "
             "what is connected";
    case v1::REASON_TOKEN_TIMEOUT:
    case v1::REASON_TOKEN_BUSY:
      return "try again in a moment: the token is slow or has no free session";
    case v1::REASON_PIN_REJECTED:
      return "correct the PIN before another attempt: a token locks after a "
             "few wrong ones";
    case v1::REASON_PIN_HOLD:
      return "have an operator check the PIN; the token was not asked again, "
             "so that it does not lock";
    case v1::REASON_PIN_SOURCE:
      return "put the PIN in a file that only you can read and name it with "
             "pin-source=file:PATH, or run on a terminal to be asked";
    case v1::REASON_KEY_NOT_FOUND:
      return "name the key's id or object (label) as the token shows it; "
             "`codeseald token list` lists the keys";
    case v1::REASON_KEY_POLICY:
      return "generate the key inside the token with `codeseald key "
             "generate`; an imported key needs key_policy: imported-allowed";
    case v1::REASON_KEY_MISMATCH:
      return "import the certificate that was issued for this key (`codeseald "
             "key import-certificate`)";
    case v1::REASON_KEY_UNSUPPORTED:
      return "use RSA with 2048 to 4096 bits, or EC P-256 or P-384";
    case v1::REASON_TOKEN_FUNCTION_FAILED:
      return "look in the log of the token's machine for the module's return "
             "code, then in the vendor's manual";
    case v1::REASON_MODULE_LOAD:
      return "check module-path and that the PKCS#11 module's own libraries "
             "are installed";
    case v1::REASON_KEY_EXISTS:
      return "choose another id and label, or use the key that is there";
    case v1::REASON_BAD_TOKEN_URI:
      return "write it as "
             "'pkcs11:token=LABEL?module-path=/path/module.so&pin-source=file:/"
             "path/pin'";

    case v1::REASON_NOT_AUTHORISED:
      return "ask the signing team to allow this client certificate for the "
             "identity";
    case v1::REASON_IDENTITY_NOT_FOUND:
      return "see `codeseal identities list` for the identities that you may "
             "use";
    case v1::REASON_BAD_REQUEST:
      return "update codeseal: client and server do not understand each other";
    case v1::REASON_BAD_CODE_DIRECTORY:
      return "sign the file again; if it stays so, report it with the request "
             "id: client and server disagree about the code";
    case v1::REASON_POLICY_VIOLATION:
      return "change what the rule names, or sign with an identity whose rules "
             "allow it";
    case v1::REASON_SELF_VERIFY_FAILED:
      return "do not ship anything; report it to the signing team now: the "
             "signature does not fit its certificate";
    case v1::REASON_OVERLOADED:
      return "try again in a moment: the server has more work than it takes";
    case v1::REASON_DRAINING:
      return "try again in a moment: the server is being restarted";
    case v1::REASON_MESSAGE_TOO_LARGE:
      return "ask the signing team to raise the server's message limit";
    case v1::REASON_DEADLINE_EXCEEDED:
      return "try again, with a longer --timeout if the network is slow";
    case v1::REASON_BAD_CONFIG:
      return "correct the place named above";
    case v1::REASON_INTERNAL:
      return "report it to the signing team with the id below";
    case v1::REASON_IDENTITY_DISABLED:
      return "leave the version out to sign with the active one";

    case v1::REASON_SERVER_UNREACHABLE:
      return "check the address, that codeseald runs there and that a firewall "
             "lets you through; then try again";
    case v1::REASON_TLS_FAILED:
      return "check that --ca is the CA of the server's certificate, that the "
             "address is a name in it, and that --cert is valid and known to "
             "the server";
    case v1::REASON_FILE_NOT_FOUND:
      return "check the path";
    case v1::REASON_FILE_NOT_READABLE:
      return "give a regular file that you may read";
    case v1::REASON_FILE_NOT_WRITABLE:
      return "make the folder writable for you: the signed file is written "
             "beside the original and then takes its place";
    case v1::REASON_DISK_FULL:
      return "free some space: the signed file is written beside the original "
             "first, so it needs its size once more";
    case v1::REASON_USAGE:
      return "see `codeseal --help`";
    case v1::REASON_FILE_CHANGED:
      return "let the build finish writing the file, then sign it";

    case v1::REASON_CODE_MODIFIED:
    case v1::REASON_SPECIAL_SLOT_MISMATCH:
      return "the code is not what was signed: get the original again, or sign "
             "what you have with -f";
    case v1::REASON_CMS_SIGNATURE_INVALID:
      return "do not trust this file; get the original again, or sign it anew "
             "with -f";
    case v1::REASON_CHAIN_NOT_TRUSTED:
      return "give the root certificate that you trust with --anchors PEM";
    case v1::REASON_REQUIREMENT_NOT_SATISFIED:
      return "compare `codeseal show -r - PATH` with the requirement that was "
             "asked for";
    case v1::REASON_TEAM_IDENTIFIER_MISMATCH:
      return "sign all slices with the same identity";
    case v1::REASON_SIGNATURE_UNSUPPORTED:
      return "sign the code again; this kind of signature is not understood";
    case v1::REASON_CERTIFICATE_EXPIRED:
      return "renew the certificate, or judge the code as of its signing time "
             "with --at TIME";
    case v1::REASON_MALFORMED_SIGNATURE:
      return "the signature is damaged: sign the code again with -f";
    case v1::REASON_CERTIFICATE_REVOKED:
      return "do not trust this file; its signer must sign it anew with "
             "another "
             "certificate";
    case v1::REASON_REVOCATION_UNKNOWN:
      return "give a current list with --crl FILE or an answer with --ocsp "
             "FILE, or let the authority be asked over the network";
    case v1::REASON_BAD_TIMESTAMP:
      return "do not trust the time of signing; sign the code again with -f "
             "and "
             "another timestamp server";

    case v1::REASON_BAD_BUNDLE_FORMAT:
      return "give it the shape of a bundle: an Info.plist whose "
             "CFBundleExecutable names a file in Contents/MacOS (macOS) or "
             "beside it (iOS)";
    case v1::REASON_AMBIGUOUS_BUNDLE_FORMAT:
      return "make the files at the top of the framework symbolic links into "
             "Versions/Current; copying with `cp -R` or zip without -y loses "
             "them";
    case v1::REASON_UNSEALED_APP_ROOT:
      return "move everything beside Contents into Contents/Resources; in "
             "_CodeSignature nothing may lie but the signature";
    case v1::REASON_UNSEALED_FRAMEWORK_ROOT:
      return "leave only Versions, with the symbolic link Versions/Current, "
             "and links into it at the top of the framework";
    case v1::REASON_NOT_REGULAR_FILE:
      return "replace the symbolic link by a copy of the file that it names";
    case v1::REASON_BAD_INFO_PLIST:
      return "check the file with plutil -lint; its top must be a dictionary";
    case v1::REASON_RESOURCE_RULES_INVALID:
      return "sign without custom resource rules: remove "
             "CFBundleResourceSpecification from the Info.plist, and do not "
             "preserve the old ones";
    case v1::REASON_DS_STORE_SYMLINK:
      return "delete the symbolic link";
    case v1::REASON_RESOURCE_NOT_SUPPORTED:
      return "delete it: a bundle holds folders, files and symbolic links, no "
             "sockets, pipes or devices";
    case v1::REASON_RESOURCE_NOT_READABLE:
      return "give yourself the right to read it (chmod -R u+rX)";
    case v1::REASON_RESOURCE_NAME_NOT_UTF8:
      return "rename the file: macOS has UTF-8 names only";
    case v1::REASON_UNSIGNED_NESTED_CODE:
      return "sign it first, or sign the whole bundle with --deep; what is not "
             "code belongs in Contents/Resources";
    case v1::REASON_BAD_NESTED_CODE:
      return "sign the nested code first, then everything that contains it";
    case v1::REASON_RESOURCE_SEAL_INVALID:
      return "_CodeSignature/CodeResources is damaged: sign the bundle again "
             "with -f";
    case v1::REASON_SEALED_RESOURCE_CHANGED:
      return "restore the bundle as it was signed, or sign it again with -f "
             "after the last change";
    case v1::REASON_INVALID_SYMLINK:
      return "let the symbolic link name a sealed file of the same bundle, "
             "by a relative path";
    case v1::REASON_WEAK_RESOURCE_RULES:
    case v1::REASON_WEAK_RESOURCE_ENVELOPE:
      return "sign the bundle again with -f: this kind of seal leaves files "
             "out; --no-strict verifies what it covers";
    case v1::REASON_RESOURCES_NOT_FOUND:
      return "sign the bundle, not only its executable";

    case v1::REASON_BAD_DISK_IMAGE:
      return "make the disk image again; hdiutil verify tells more on a Mac";
    case v1::REASON_UNSUPPORTED_DISK_IMAGE:
      return "convert it to a plain, compressed image in one file, with "
             "hdiutil convert -format UDZO on a Mac, and sign that";
    case v1::REASON_BAD_PACKAGE:
      return "build the package again, with pkgbuild or productbuild";
    case v1::REASON_UNSUPPORTED_PACKAGE:
      return "make it a flat package, with pkgbuild or productbuild, and sign "
             "that";
    case v1::REASON_PACKAGE_MODIFIED:
      return "the package is not what was signed: get it again, or sign it "
             "again with -f after looking at it";
    case v1::REASON_NOT_INSTALLER_CERTIFICATE:
      return "sign packages with an installer identity (Developer ID "
             "Installer, or one of your own with that key usage) and code "
             "with an application identity; `codeseal identities list` shows "
             "them";
    case v1::REASON_NO_EXTENDED_ATTRIBUTES:
      return "put the file on a file system with extended attributes (ext4, "
             "xfs, btrfs), or keep the signature apart with --detached FILE";
    case v1::REASON_BAD_DETACHED_SIGNATURE:
      return "make the detached signature again, from the code that it is "
             "for";
    case v1::REASON_NO_ATTESTATION:
      return "name the token's attestation certificates with --attestation and "
             "--intermediate, as the vendor's tool exports them "
             "(yubico-piv-tool "
             "-a attest)";
    case v1::REASON_BAD_ATTESTATION:
      return "the attestation is about another key or of another vendor: "
             "export it again for this key, and check --vendor-root";
    case v1::REASON_REQUIREMENT_CHANGES:
      return "stage a certificate of the same team and kind, or, if users may "
             "be asked anew for keychain items and permissions, repeat it with "
             "--allow-requirement-change";
    case v1::REASON_IDENTITY_STATE:
      return "look at the versions with `codeseald identity list`; a version "
             "goes from staged over active and retired to disabled";
    case v1::REASON_TSA_DOWN:
      return "try again later; until then --timestamp=none signs without a "
             "timestamp, where the identity allows it";
    case v1::REASON_NO_TIMESTAMP_AUTHORITY:
      return "leave --timestamp out, or let the server's administrator name "
             "an authority: tsa: in its configuration, timestamp: {tsa: NAME} "
             "at the identity";
    case v1::REASON_CLOCK:
      return "let the server's administrator set its clock (NTP); nothing is "
             "stamped while it is wrong";
    case v1::REASON_REQUEST_ID_REUSED:
      return "use a new request id for every new signature";
    case v1::REASON_IN_PROGRESS:
      return "the same request is being answered: ask again in a moment with "
             "the same request id";
    case v1::REASON_INDETERMINATE:
      return "the server stopped in the middle of this request: ask with "
             "GetSignature, then sign with a new request id";
    case v1::REASON_REQUEST_NOT_FOUND:
      return "the server keeps no signature under this request id: sign again "
             "with a new one";
    case v1::REASON_STATE_STORE:
      return "give codeseald a folder of its own with state: {folder: ...}, on "
             "a "
             "disk with room that it may write to";
    case v1::REASON_CEREMONY:
      return "compare the ceremony's file with what is on the token "
             "(`codeseald token list`); a ceremony never replaces anything";

    case v1::REASON_ASSESSMENT_REJECTED:
      return "see the advice with each reason; macOS lets in what a Developer "
             "ID signed and Apple's notary has seen";
    case v1::REASON_PROBLEMS_FOUND:
      return "see the advice with each finding, and ask again";

    case v1::REASON_BAD_IDENTITY_TOKEN:
      return "get a new token from the CI system for this job, with the "
             "audience that the server expects";
    case v1::REASON_QUOTA_EXCEEDED:
      return "wait for the time that the message names; operators set the "
             "identity's `limits`";
    case v1::REASON_OUTSIDE_RELEASE_WINDOW:
      return "sign within the identity's release windows, or ask operators to "
             "open one";
    case v1::REASON_APPROVAL_REQUIRED:
      return "ask for approval with `codeseal grant request`, then sign again "
             "when enough people have approved";
    case v1::REASON_BAD_APPROVAL:
      return "approve again with `codeseal approve` and a key that the "
             "identity "
             "lists as an approver's";
    case v1::REASON_GRANT_NOT_FOUND:
      return "see `codeseal grant list` for the grants there are";
    case v1::REASON_GRANT_STATE:
      return "request a new grant with `codeseal grant request`";
    case v1::REASON_BAD_AUDIT_LOG:
      return "this is no part of an audit log, or it is damaged: fetch it "
             "again, and if that does not help tell the signing team";
    case v1::REASON_AUDIT_UNAVAILABLE:
      return "nothing is signed while the server cannot keep its audit log: "
             "try again later; operators find the reason in the server's log";
    case v1::REASON_AUDIT_INCONSISTENT:
      return "the audit log contradicts what was signed earlier: keep both, "
             "and tell the signing team and the auditors";
    case v1::REASON_AUDIT_NOT_FOUND:
      return "the log has no such entry or size; `codeseal audit checkpoint` "
             "says how long it is";
    case v1::REASON_BAD_NOTE_SIGNATURE:
      return "compare the key with the one that the log's operators published";

    case v1::Reason_INT_MIN_SENTINEL_DO_NOT_USE_:
    case v1::Reason_INT_MAX_SENTINEL_DO_NOT_USE_:
      break;
  }
  return "run it again with -v and report what it prints; a newer codeseal may "
         "say more";
}

}  // namespace codeseal::client
