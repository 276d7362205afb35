#include "tests/support/package_builder.h"

#include <openssl/evp.h>
#include <zlib.h>

#include <map>

namespace codeseal::testing {
namespace {

std::string Digest(const EVP_MD* algorithm, const std::string& bytes) {
  std::string digest(static_cast<size_t>(EVP_MD_get_size(algorithm)), '\0');
  EVP_Digest(bytes.data(), bytes.size(),
             reinterpret_cast<unsigned char*>(digest.data()), nullptr,
             algorithm, nullptr);
  return digest;
}

std::string Hex(const std::string& bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string hex;
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    hex += kDigits[byte >> 4];
    hex += kDigits[byte & 15];
  }
  return hex;
}

std::string BigEndian(uint64_t value, size_t size) {
  std::string bytes;
  for (size_t i = size; i-- > 0;) {
    bytes += static_cast<char>(value >> (8 * i) & 0xff);
  }
  return bytes;
}

// <file> with its data, `indent` spaces deep.
std::string FileElement(int id, const std::string& name,
                        const PackageEntry& entry, const std::string& stored,
                        uint64_t offset, size_t indent) {
  const std::string in(indent, ' ');
  return in + "<file id=\"" + std::to_string(id) + "\">\n" +  //
         in + " <name>" + name + "</name>\n" +                //
         in + " <type>file</type>\n" +                        //
         in + " <data>\n" +                                   //
         in + "  <archived-checksum style=\"sha1\">" +
         Hex(Digest(EVP_sha1(), stored)) + "</archived-checksum>\n" +  //
         in + "  <extracted-checksum style=\"sha1\">" +
         Hex(Digest(EVP_sha1(), entry.content)) + "</extracted-checksum>\n" +
         in + "  <encoding style=\"application/" +
         (entry.deflated ? "x-gzip" : "octet-stream") + "\"/>\n" +  //
         in + "  <size>" + std::to_string(entry.content.size()) +
         "</size>\n" +                                                 //
         in + "  <offset>" + std::to_string(offset) + "</offset>\n" +  //
         in + "  <length>" + std::to_string(stored.size()) + "</length>\n" +
         in + " </data>\n" +  //
         in + "</file>\n";
}

}  // namespace

std::string Compress(const std::string& bytes) {
  uLongf size = compressBound(bytes.size());
  std::string out(size, '\0');
  compress2(reinterpret_cast<Bytef*>(out.data()), &size,
            reinterpret_cast<const Bytef*>(bytes.data()), bytes.size(), 9);
  out.resize(size);
  return out;
}

std::vector<PackageEntry> ToolPackageEntries(const std::string& identifier) {
  return {{"Distribution",
           "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n"
           "<installer-gui-script minSpecVersion=\"1\">\n"
           "  <product id=\"" +
               identifier +
               ".product\" version=\"1.0\"/>\n"
               "  <pkg-ref id=\"" +
               identifier +
               "\" version=\"1.0\">#Tool.pkg</pkg-ref>\n"
               "</installer-gui-script>\n"},
          {"Tool.pkg/PackageInfo",
           "<pkg-info identifier=\"" + identifier +
               "\" version=\"1.0\" install-location=\"/\"/>\n"},
          {"Tool.pkg/Payload", std::string(3000, 'p') + "ayload", false}};
}

PackageParts MakePackageParts(const PackageSpec& spec) {
  PackageParts parts;
  parts.sha256 = spec.sha256;
  const size_t checksum_size = spec.sha256 ? 32 : 20;
  std::map<std::string, std::string> folders;  // name -> files in it
  std::string files;
  int id = 0;
  for (const PackageEntry& entry : spec.entries) {
    const std::string stored =
        entry.deflated ? Compress(entry.content) : entry.content;
    const uint64_t offset = checksum_size + parts.heap.size();
    parts.heap += stored;
    const size_t slash = entry.path.find('/');
    if (slash == std::string::npos) {
      files += FileElement(++id, entry.path, entry, stored, offset, 2);
    } else {
      folders[entry.path.substr(0, slash)] += FileElement(
          ++id, entry.path.substr(slash + 1), entry, stored, offset, 3);
    }
  }
  for (const auto& [name, inside] : folders) {
    files += "  <file id=\"" + std::to_string(++id) + "\">\n   <name>" + name +
             "</name>\n   <type>directory</type>\n" + inside + "  </file>\n";
  }
  parts.xml =
      "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<xar>\n <toc>\n"
      "  <checksum style=\"" +
      std::string(spec.sha256 ? "sha256" : "sha1") + "\">\n   <size>" +
      std::to_string(checksum_size) +
      "</size>\n   <offset>0</offset>\n  </checksum>\n"
      "  <creation-time>2026-01-02T03:04:05</creation-time>\n" +
      files + " </toc>\n</xar>\n";
  return parts;
}

std::string JoinPackage(const PackageParts& parts) {
  const std::string table = Compress(parts.xml);
  return "xar!" + BigEndian(28, 2) + BigEndian(1, 2) +
         BigEndian(table.size(), 8) + BigEndian(parts.xml.size(), 8) +
         BigEndian(parts.sha256 ? 3 : 1, 4) + table +
         Digest(parts.sha256 ? EVP_sha256() : EVP_sha1(), table) + parts.heap;
}

}  // namespace codeseal::testing
