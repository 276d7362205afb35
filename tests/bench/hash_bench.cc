// hash_bench [--size BYTES] [--json]: how fast code pages are hashed, as a
// ratio to raw SHA-256 of the same bytes on all cores, and how much memory a
// whole ad-hoc signing takes.
//
// Rounds of both are interleaved and medians compared, because a busy machine
// slows both alike. Exit status 1 when signing takes more memory than the goal;
// speed is only printed.

#include <openssl/evp.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "codesign/base/error.h"
#include "codesign/base/parallel.h"
#include "codesign/macho/universal_file.h"
#include "codesign/page_hasher.h"
#include "codesign/signing_plan.h"
#include "tests/support/mach_o_builder.h"

namespace codeseal {
namespace {

constexpr int kRoundCount = 5;
constexpr double kSpeedGoal = 0.80;
constexpr long kMemoryGoal = 64;  // MiB

[[noreturn]] void Fail(const std::string& message) {
  std::fprintf(stderr, "hash_bench: %s\n", message.c_str());
  std::exit(2);
}

template <typename T>
T Need(absl::StatusOr<T> result) {
  if (!result.ok()) Fail(std::string(Message(result.status())));
  return *std::move(result);
}

// An unsigned executable of about `size` bytes, none of them a hole.
void WriteTool(const std::string& path, uint64_t size) {
  // The builder's file with its code made longer: all offsets behind it move.
  constexpr uint64_t kPage = 16384;
  const uint64_t code_size = size / kPage * kPage;
  const Bytes small = testing::BuildMachO({.code_size = kPage});
  const auto mach_o = Need(MachO::Parse(small));
  Bytes start = ToBytes(ByteView(small).first(mach_o.load_commands_end() + 64));
  const uint64_t added = code_size - kPage;
  const auto store = [&](size_t at, uint64_t value) {
    StoreU64(start, at, value, ByteOrder::kLittle);
  };
  const MachO::Segment& text = *mach_o.FindSegment("__TEXT");
  const MachO::Segment& linkedit = *mach_o.FindSegment("__LINKEDIT");
  store(text.command_offset + 48, text.file_size + added);
  store(text.command_offset + 72 + 40, kPage + added);
  store(linkedit.command_offset + 40, linkedit.file_offset + added);
  const size_t symtab = linkedit.command_offset + 72;
  for (const size_t field : {symtab + 8, symtab + 16}) {  // symoff, stroff
    StoreU32(start, field, static_cast<uint32_t>(linkedit.file_offset + added),
             ByteOrder::kLittle);
  }

  std::ofstream out(path, std::ios::binary);
  out << AsText(start);
  Bytes chunk(uint64_t{1} << 20);
  uint64_t state = 88172645463325252u;
  for (uint64_t written = 0; written < code_size; written += chunk.size()) {
    for (size_t i = 0; i < chunk.size(); i += 8) {
      state ^= state << 13;
      state ^= state >> 7;
      state ^= state << 17;
      std::memcpy(&chunk[i], &state, 8);
    }
    const uint64_t rest = std::min<uint64_t>(chunk.size(), code_size - written);
    out << AsText(ByteView(chunk).first(rest));
  }
  out << AsText(ByteView(small).subspan(start.size() + kPage));
  out.close();
  if (!out) Fail("cannot write " + path);
}

double Seconds(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start)
      .count();
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// One EVP stream for each core, over bytes that are mapped already.
void HashRaw(ByteView bytes) {
  const size_t count = std::max(1u, std::thread::hardware_concurrency());
  const size_t share = bytes.size() / count;
  ParallelFor(count, [&](size_t i) {
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int size = 0;
    EVP_Digest(bytes.data() + i * share, share, digest, &size, EVP_sha256(),
               nullptr);
  });
}

// What signing does: pages mapped on demand, let go when hashed.
void HashAsSigning(const MappedFile& file, const MachO& mach_o,
                   uint32_t page_size) {
  const SliceLayout layout = Need(ReserveSignature(mach_o, 20000));
  Bytes slots((layout.signature_offset() + page_size - 1) / page_size * 32);
  const PageDigests digests[] = {{DigestKind::kSha256, slots}};
  HashPages(layout, page_size, digests, [&](uint64_t offset, uint64_t size) {
    file.Release(offset, size);
  });
}

// Runs this program again to sign `path`; its largest memory in MiB.
long MeasureSigning(const std::string& path) {
  int output[2];
  if (pipe(output) != 0) Fail("pipe");
  const pid_t child = fork();
  if (child == 0) {
    dup2(output[1], STDOUT_FILENO);
    execl("/proc/self/exe", "hash_bench", "--sign", path.c_str(), nullptr);
    _exit(127);
  }
  close(output[1]);
  std::string text(64, '\0');
  const ssize_t size = read(output[0], text.data(), text.size());
  close(output[0]);
  int status = 0;
  waitpid(child, &status, 0);
  if (status != 0 || size <= 0) Fail("the signing child failed");
  return std::atol(text.c_str()) / 1024;
}

int SignAndReport(const std::string& path) {
  SigningOptions options;
  options.page_size = 4096;
  const SigningPlan plan =
      Need(SigningPlan::Create(Need(MappedFile::Open(path)), options, {}));
  const absl::Status written = plan.WriteSigned(path, {});
  if (!written.ok()) Fail(std::string(Message(written)));
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind("VmHWM:", 0) == 0) std::puts(line.c_str() + 6);
  }
  return 0;
}

struct Speed {
  uint32_t page_size;
  double ratio;
  double gigabytes_per_second;
};

int Run(uint64_t size, bool json) {
  std::string folder =
      (std::filesystem::temp_directory_path() / "codeseal-bench-XXXXXX")
          .string();
  if (mkdtemp(folder.data()) == nullptr) Fail("cannot make a folder");
  const std::string path = folder + "/tool";
  WriteTool(path, size);

  std::vector<Speed> speeds;
  {
    const MappedFile file = Need(MappedFile::Open(path));
    const MachO mach_o = Need(MachO::Parse(file.bytes()));
    void* raw = mmap(nullptr, file.bytes().size(), PROT_READ,
                     MAP_PRIVATE | MAP_POPULATE, file.fd(), 0);
    if (raw == MAP_FAILED) Fail("cannot map the file");
    const ByteView raw_bytes(static_cast<const uint8_t*>(raw),
                             file.bytes().size());
    for (const uint32_t page_size : {4096u, 16384u}) {
      std::vector<double> raw_seconds;
      std::vector<double> page_seconds;
      for (int round = 0; round < kRoundCount; ++round) {
        raw_seconds.push_back(Seconds([&] { HashRaw(raw_bytes); }));
        page_seconds.push_back(
            Seconds([&] { HashAsSigning(file, mach_o, page_size); }));
      }
      speeds.push_back({page_size, Median(raw_seconds) / Median(page_seconds),
                        static_cast<double>(file.bytes().size()) /
                            Median(page_seconds) / 1e9});
    }
    munmap(raw, file.bytes().size());
  }
  const long memory = MeasureSigning(path);
  std::filesystem::remove_all(folder);

  if (json) {
    std::printf("{\"bytes\":%llu,\"cores\":%u,",
                static_cast<unsigned long long>(size),
                std::thread::hardware_concurrency());
    for (const Speed& speed : speeds) {
      std::printf("\"ratio_%u\":%.3f,\"gb_per_s_%u\":%.3f,", speed.page_size,
                  speed.ratio, speed.page_size, speed.gigabytes_per_second);
    }
    std::printf("\"peak_mib\":%ld}\n", memory);
  } else {
    std::printf("%.1f GB on %u cores, medians of %d interleaved rounds\n",
                static_cast<double>(size) / 1e9,
                std::thread::hardware_concurrency(), kRoundCount);
    for (const Speed& speed : speeds) {
      std::printf(
          "  pages of %5u: %.2f of raw SHA-256 times cores (goal %.2f), "
          "%.2f GB/s\n",
          speed.page_size, speed.ratio, kSpeedGoal, speed.gigabytes_per_second);
    }
    std::printf("  ad-hoc signing of it: %ld MiB at most (goal %ld)\n", memory,
                kMemoryGoal);
  }
  return memory <= kMemoryGoal ? 0 : 1;
}

}  // namespace
}  // namespace codeseal

int main(int argc, char** argv) {
  uint64_t size = 2'000'000'000;
  bool json = false;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--sign" && i + 1 < argc) {
      return codeseal::SignAndReport(argv[i + 1]);
    }
    if (argument == "--size" && i + 1 < argc) {
      size = std::strtoull(argv[++i], nullptr, 10);
    } else if (argument == "--json") {
      json = true;
    } else {
      std::fprintf(stderr, "usage: hash_bench [--size BYTES] [--json]\n");
      return 2;
    }
  }
  return codeseal::Run(size, json);
}
