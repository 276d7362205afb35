#include "audit/log.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <filesystem>
#include <map>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "absl/time/clock.h"
#include "audit/entry.h"
#include "audit/file_descriptor.h"
#include "audit/folder_writer.h"
#include "audit/log_folder.h"
#include "codesign/base/error.h"
#include "codesign/base/staged_file.h"
#include "codesign/base/thread_end.h"

namespace codeseal::audit {
namespace {

// The wall clock may jump; deadlines must not.
using Steady = std::chrono::steady_clock;

constexpr auto kLookEvery = std::chrono::seconds(1);
constexpr auto kTryAgainAfter = std::chrono::milliseconds(200);
// Entries that nobody waits for are under a checkpoint after this.
constexpr auto kLongestUncovered = std::chrono::seconds(1);
constexpr size_t kMaxBatch = 1024;

absl::Status Unavailable(const std::string& message) {
  return MakeError(absl::StatusCode::kUnavailable, v1::STAGE_AUDIT,
                   v1::REASON_AUDIT_UNAVAILABLE, message);
}

// What callers are told, whatever the fault is: it is not theirs.
absl::Status ForCaller(const absl::Status& fault) {
  return Unavailable("the audit log takes no entries: " +
                     std::string(Message(fault)));
}

}  // namespace

// The threads keep it alive: one that hangs on a disk may outlive the Log.
struct Log::Impl {
  struct Waiting {
    Bytes entry;
    bool wants_receipt = false;
    bool concludes = false;
    Log::Done done;
    uint64_t index = 0;
    bool is_answered = false;  // under the log's mutex
  };
  using WaitingPtr = std::shared_ptr<Waiting>;

  Impl(const LogOptions& log_options, std::shared_ptr<LogFolder> log_folder,
       std::unique_ptr<CheckpointSigner> checkpoint_signer)
      : options(log_options),
        folder(std::move(log_folder)),
        writer(*folder),
        signer(std::move(checkpoint_signer)),
        key(signer->key()),
        tree(folder) {}

  absl::Status Load();
  void Start(const std::shared_ptr<Impl>& self);

  // The thread that writes.
  void WriteAll();
  absl::Status WriteBatch(const std::vector<WaitingPtr>& batch);
  absl::Status WriteChunk(const std::vector<WaitingPtr>& chunk);
  absl::Status FinishBundle();
  absl::Status OpenGrowing();
  absl::Status CheckFolder();
  absl::Status CheckIdentity() const;
  absl::Status CheckSizeOf(const std::string& name, uint64_t size) const;
  absl::Status Recover();
  void LookAtSpace();

  // The thread that signs.
  void SignAll();
  absl::Status SignAndPublish(const LogTree& at);
  absl::StatusOr<Receipt> MakeReceipt(const LogTree& at,
                                      const Waiting& waiting) const;

  // The thread that keeps deadlines.
  void ExpireAll();

  void Answer(const std::vector<std::pair<WaitingPtr, absl::StatusOr<Receipt>>>&
                  answers);
  // Fails everybody who waits, when there is a fault.
  void SetFault(absl::Status Impl::* which, const absl::Status& status);
  // A tree with at least `size` entries.
  absl::StatusOr<std::shared_ptr<const LogTree>> TreeOf(uint64_t size) const;
  absl::Status FaultLocked() const {
    return write_fault.ok() ? sign_fault : write_fault;
  }

  const LogOptions options;
  const std::shared_ptr<LogFolder> folder;
  const FolderWriter writer;
  std::unique_ptr<CheckpointSigner> signer;  // the signing thread's
  const NoteKey key;

  // The writing thread's.
  LogTree tree;
  uint64_t bundle_count = 0;
  uint64_t last_bundle_size = 0;  // bytes
  FileDescriptor growing_file;

  mutable std::mutex mutex;
  std::condition_variable work;    // for the writing thread
  std::condition_variable sign;    // for the signing thread
  std::condition_variable expire;  // for the third
  std::condition_variable ended;   // for ~Log()
  std::deque<WaitingPtr> to_write;
  std::vector<WaitingPtr> to_sign;  // durable, receipt wanted
  std::multimap<Steady::time_point, WaitingPtr> by_deadline;
  Bytes growing;  // the file's durable bytes; the writing thread changes it
  std::shared_ptr<const LogTree> durable;
  Steady::time_point durable_since;
  SignedCheckpoint published;
  absl::Status write_fault;
  absl::Status sign_fault;
  bool is_space_low = false;
  bool is_stopping = false;
  bool is_written = false;  // the writing thread has ended
  int running_count = 0;
};

absl::Status Log::Impl::Load() {
  const std::optional<SignedCheckpoint>& last = signer->last();
  const uint64_t signed_size = last.has_value() ? last->head.size : 0;
  ASSIGN_OR_RETURN(const std::optional<Bytes> published_note,
                   folder->Read(kCheckpointFile, kMaxNoteSize));
  if (published_note.has_value()) {
    const absl::StatusOr<Checkpoint> there =
        OpenCheckpoint(AsText(*published_note), key);
    if (there.ok() && there->head.size > signed_size) {
      return AuditInconsistent(
          "the folder's checkpoint has " + std::to_string(there->head.size) +
          " entries, but the record of what was signed knows only " +
          std::to_string(signed_size) + ": the record is an old one");
    }
    // A foreign checkpoint; a torn one is replaced below.
    if (!there.ok() && !last.has_value()) return there.status();
  }
  ASSIGN_OR_RETURN(ScannedLog log, ScanLog(*folder, signed_size / kTileWidth));
  if (log.size() < signed_size) {
    return AuditInconsistent(
        "the log has " + std::to_string(log.size()) + " entries, but " +
        std::to_string(signed_size) +
        " were signed: it was cut short or restored from an old snapshot");
  }
  bundle_count = log.bundle_count;
  growing = std::move(log.growing);

  // A crash may have come between a bundle and its tiles.
  for (uint64_t count = bundle_count, level = 0; count > 0;
       count /= kTileWidth, ++level) {
    const auto tile_level = static_cast<int>(level);
    if (folder->Has(TilePath(tile_level, count - 1))) continue;
    Tile tile;
    if (level == 0) {
      ASSIGN_OR_RETURN(const Bytes bundle, folder->ReadBundle(count - 1));
      ASSIGN_OR_RETURN(const std::vector<ByteView> entries,
                       ParseBundle(bundle));
      for (const ByteView each : entries) tile.Append(HashLeaf(each));
    } else {
      for (uint64_t i = 0; i < kTileWidth; ++i) {
        ASSIGN_OR_RETURN(
            const std::shared_ptr<const Tile> below,
            folder->ReadTile(tile_level - 1, (count - 1) * kTileWidth + i));
        tile.Append(below->root());
      }
    }
    RETURN_IF_ERROR(writer.Replace(TilePath(tile_level, count - 1),
                                   tile.Encode(), /*durable=*/true));
  }
  ASSIGN_OR_RETURN(
      tree, LogTree::Load(folder, bundle_count, ParseWholeEntries(growing)));
  if (bundle_count > 0) {
    ASSIGN_OR_RETURN(const Bytes last_bundle,
                     folder->ReadBundle(bundle_count - 1));
    last_bundle_size = last_bundle.size();
  }
  // Afresh: what the page cache holds of an old file need not be on the disk.
  RETURN_IF_ERROR(writer.Replace(kGrowingFile, growing, /*durable=*/true));
  if (tree.is_bundle_full()) RETURN_IF_ERROR(FinishBundle());
  RETURN_IF_ERROR(OpenGrowing());

  if (last.has_value()) {
    ASSIGN_OR_RETURN(const TreeHash root, ComputeRoot(tree, signed_size));
    if (root != last->head.root) {
      return AuditInconsistent("the log's first " +
                               std::to_string(signed_size) +
                               " entries are not those that were signed");
    }
    published = *last;
    RETURN_IF_ERROR(writer.Replace(kCheckpointFile, AsBytes(last->note), true));
  }
  RETURN_IF_ERROR(writer.Replace(kKeyFile, AsBytes(key.Format() + "\n"), true));
  durable = std::make_shared<const LogTree>(tree);
  durable_since = Steady::now();
  LookAtSpace();
  return absl::OkStatus();
}

absl::Status Log::Impl::OpenGrowing() {
  growing_file = FileDescriptor(
      openat(folder->fd(), kGrowingFile, O_RDWR | O_CLOEXEC | O_NOFOLLOW));
  if (growing_file.get() >= 0) return absl::OkStatus();
  return FileError(errno, v1::STAGE_AUDIT, "open", writer.Path(kGrowingFile));
}

void Log::Impl::Start(const std::shared_ptr<Impl>& self) {
  const auto run = [&](void (Impl::*work_of_thread)()) {
    ++running_count;
    std::thread([self, work_of_thread] {
      (self.get()->*work_of_thread)();
      ReleaseThreadState();
      const std::lock_guard lock(self->mutex);
      --self->running_count;
      self->ended.notify_all();
    }).detach();
  };
  run(&Impl::WriteAll);
  run(&Impl::SignAll);
  run(&Impl::ExpireAll);
}

// ---------------------------------------------------------------- answering

void Log::Impl::Answer(
    const std::vector<std::pair<WaitingPtr, absl::StatusOr<Receipt>>>&
        answers) {
  std::vector<bool> is_mine(answers.size());
  {
    const std::lock_guard lock(mutex);
    for (size_t i = 0; i < answers.size(); ++i) {
      is_mine[i] = !std::exchange(answers[i].first->is_answered, true);
    }
    std::erase_if(by_deadline,
                  [](const auto& each) { return each.second->is_answered; });
    if (is_stopping) expire.notify_all();
  }
  for (size_t i = 0; i < answers.size(); ++i) {
    if (is_mine[i]) answers[i].first->done(answers[i].second);
  }
}

void Log::Impl::SetFault(absl::Status Impl::* which,
                         const absl::Status& status) {
  std::vector<std::pair<WaitingPtr, absl::StatusOr<Receipt>>> answers;
  bool is_news = false;
  {
    const std::lock_guard lock(mutex);
    is_news = (this->*which).ok() != status.ok() ||
              GetReason(this->*which) != GetReason(status);
    this->*which = status;
    // Without a disk nobody is served; without the token those who need no
    // checkpoint are, and the others wait until their time is up.
    if (!status.ok() && which == &Impl::write_fault) {
      to_write.clear();
      to_sign.clear();
      for (const auto& [deadline, waiting] : by_deadline) {
        answers.emplace_back(waiting, ForCaller(status));
      }
    }
  }
  Answer(answers);
  if (is_news && options.on_change) options.on_change(status);
}

void Log::Impl::ExpireAll() {
  for (;;) {
    std::vector<std::pair<WaitingPtr, absl::StatusOr<Receipt>>> answers;
    {
      std::unique_lock lock(mutex);
      if (is_stopping && by_deadline.empty()) return;
      const auto next = by_deadline.empty() ? Steady::now() + kLookEvery
                                            : by_deadline.begin()->first;
      expire.wait_until(lock, next);
      const auto now = Steady::now();
      for (const auto& [deadline, waiting] : by_deadline) {
        if (deadline > now) break;
        const absl::Status fault = FaultLocked();
        answers.emplace_back(
            waiting, fault.ok()
                         ? Unavailable("the audit log did not answer in time")
                         : ForCaller(fault));
      }
    }
    Answer(answers);
  }
}

// ------------------------------------------------------------------ writing

void Log::Impl::WriteAll() {
  absl::Status status;
  for (;;) {
    std::vector<WaitingPtr> batch;
    {
      std::unique_lock lock(mutex);
      const auto is_due = [this] { return is_stopping || !to_write.empty(); };
      if (status.ok()) {
        work.wait_for(lock, kLookEvery, is_due);
      } else {
        work.wait_for(lock, kTryAgainAfter, [this] { return is_stopping; });
      }
      if (is_stopping && (to_write.empty() || !status.ok())) {
        is_written = true;
        sign.notify_all();
        return;
      }
      while (!to_write.empty() && batch.size() < kMaxBatch) {
        WaitingPtr next = std::move(to_write.front());
        to_write.pop_front();
        // Nobody waits for an intent whose time is up. What concludes is true
        // all the same.
        if (!next->is_answered || next->concludes) {
          batch.push_back(std::move(next));
        }
      }
    }
    status = status.ok() ? CheckFolder() : Recover();
    if (status.ok() && !batch.empty()) status = WriteBatch(batch);
    LookAtSpace();
    SetFault(&Impl::write_fault, status);
  }
}

absl::Status Log::Impl::WriteBatch(const std::vector<WaitingPtr>& batch) {
  auto next = batch.begin();
  while (next != batch.end()) {
    const auto room =
        static_cast<std::ptrdiff_t>(kTileWidth - tree.size() % kTileWidth);
    const auto end = next + std::min(room, batch.end() - next);
    RETURN_IF_ERROR(WriteChunk({next, end}));
    next = end;
  }
  return absl::OkStatus();
}

// Entries that fit into the growing bundle.
absl::Status Log::Impl::WriteChunk(const std::vector<WaitingPtr>& chunk) {
  Bytes bytes;
  for (const WaitingPtr& each : chunk) AppendToBundle(bytes, each->entry);
  const std::string path = writer.Path(kGrowingFile);
  RETURN_IF_ERROR(WriteAt(growing_file.get(), bytes, growing.size(), path));
  if (fdatasync(growing_file.get()) != 0) {
    return FileError(errno, v1::STAGE_AUDIT, "flush", path);
  }
  {
    const std::lock_guard lock(mutex);
    codeseal::Append(growing, bytes);
  }
  for (const WaitingPtr& each : chunk) {
    each->index = tree.size();
    tree.Append(HashLeaf(each->entry));
  }
  if (tree.is_bundle_full()) RETURN_IF_ERROR(FinishBundle());

  auto now_durable = std::make_shared<const LogTree>(tree);
  std::vector<std::pair<WaitingPtr, absl::StatusOr<Receipt>>> answers;
  {
    const std::lock_guard lock(mutex);
    if (durable->size() == published.head.size) durable_since = Steady::now();
    durable = std::move(now_durable);
    for (const WaitingPtr& each : chunk) {
      if (each->wants_receipt) {
        to_sign.push_back(each);
        continue;
      }
      Receipt receipt;
      receipt.index = each->index;
      receipt.entry = each->entry;
      answers.emplace_back(each, std::move(receipt));
    }
    if (!to_sign.empty()) sign.notify_one();
  }
  Answer(answers);
  return absl::OkStatus();
}

// May be called again after it failed.
absl::Status Log::Impl::FinishBundle() {
  const std::string name = BundlePath(bundle_count);
  if (!folder->Has(name)) {
    RETURN_IF_ERROR(writer.Rename(kGrowingFile, name, /*durable=*/true));
  }
  LogTree next = tree;
  for (const LogTree::FullTile& each : next.TakeFullTiles()) {
    RETURN_IF_ERROR(writer.Replace(TilePath(each.level, each.index),
                                   each.tile.Encode(), /*durable=*/true));
  }
  RETURN_IF_ERROR(writer.Replace(kGrowingFile, {}, /*durable=*/true));
  RETURN_IF_ERROR(OpenGrowing());
  const std::lock_guard lock(mutex);
  tree = std::move(next);
  ++bundle_count;
  last_bundle_size = growing.size();
  growing.clear();
  return absl::OkStatus();
}

absl::Status Log::Impl::CheckIdentity() const {
  struct stat opened{};
  struct stat named{};
  if (fstat(folder->fd(), &opened) != 0) {
    return FileError(errno, v1::STAGE_AUDIT, "look at", folder->path());
  }
  if (stat(folder->path().c_str(), &named) != 0 ||
      opened.st_ino != named.st_ino || opened.st_dev != named.st_dev) {
    return AuditInconsistent("the log's folder " + folder->path() +
                             " was removed or replaced");
  }
  return signer->CheckRecord();
}

absl::Status Log::Impl::CheckSizeOf(const std::string& name,
                                    uint64_t size) const {
  struct stat named{};
  if (fstatat(folder->fd(), name.c_str(), &named, AT_SYMLINK_NOFOLLOW) == 0 &&
      static_cast<uint64_t>(named.st_size) == size) {
    return absl::OkStatus();
  }
  return AuditInconsistent(writer.Path(name) + " was removed or changed");
}

// Before each batch, and now and then when there is nothing to do: an open file
// takes bytes long after its name is gone.
absl::Status Log::Impl::CheckFolder() {
  RETURN_IF_ERROR(CheckIdentity());
  RETURN_IF_ERROR(CheckSizeOf(kGrowingFile, growing.size()));
  struct stat opened{};
  struct stat named{};
  if (fstat(growing_file.get(), &opened) != 0 ||
      fstatat(folder->fd(), kGrowingFile, &named, AT_SYMLINK_NOFOLLOW) != 0 ||
      opened.st_ino != named.st_ino) {
    return AuditInconsistent(writer.Path(kGrowingFile) + " was replaced");
  }
  if (bundle_count > 0) {
    RETURN_IF_ERROR(
        CheckSizeOf(BundlePath(bundle_count - 1), last_bundle_size));
    RETURN_IF_ERROR(
        CheckSizeOf(TilePath(0, bundle_count - 1), kTileWidth * kTreeHashSize));
  }
  const std::lock_guard lock(mutex);
  if (!published.note.empty() && !folder->Has(kCheckpointFile)) {
    return AuditInconsistent(writer.Path(kCheckpointFile) + " was removed");
  }
  return absl::OkStatus();
}

// After a fault: goes on only if everything that was durable still is. What a
// failed flush left in the page cache is not trusted: the growing bundle is
// written anew.
absl::Status Log::Impl::Recover() {
  RETURN_IF_ERROR(CheckIdentity());
  const std::string bundle = BundlePath(bundle_count);
  if (tree.is_bundle_full() && folder->Has(bundle)) {
    RETURN_IF_ERROR(CheckSizeOf(bundle, growing.size()));
  } else {
    ASSIGN_OR_RETURN(const std::optional<Bytes> there,
                     folder->Read(kGrowingFile, kMaxBundleSize));
    if (!there.has_value() || there->size() < growing.size() ||
        !std::equal(growing.begin(), growing.end(), there->begin())) {
      return AuditInconsistent(writer.Path(kGrowingFile) +
                               " was removed or changed");
    }
    RETURN_IF_ERROR(writer.Replace(kGrowingFile, growing, /*durable=*/true));
  }
  if (tree.is_bundle_full()) RETURN_IF_ERROR(FinishBundle());
  RETURN_IF_ERROR(OpenGrowing());
  std::string note;
  {
    const std::lock_guard lock(mutex);
    durable = std::make_shared<const LogTree>(tree);
    note = published.note;
  }
  if (!note.empty() && !folder->Has(kCheckpointFile)) {
    RETURN_IF_ERROR(writer.Replace(kCheckpointFile, AsBytes(note), true));
  }
  return CheckFolder();
}

void Log::Impl::LookAtSpace() {
  struct statvfs space{};
  const bool is_low =
      options.reserve_size > 0 && fstatvfs(folder->fd(), &space) == 0 &&
      uint64_t{space.f_bavail} * space.f_frsize < options.reserve_size;
  const std::lock_guard lock(mutex);
  is_space_low = is_low;
}

// ------------------------------------------------------------------ signing

void Log::Impl::SignAll() {
  absl::Status status;
  for (;;) {
    std::shared_ptr<const LogTree> at;
    std::vector<WaitingPtr> waiting;
    bool is_last = false;
    {
      std::unique_lock lock(mutex);
      if (status.ok()) {
        sign.wait_for(lock, kLookEvery,
                      [this] { return is_written || !to_sign.empty(); });
      } else {
        sign.wait_for(lock, kTryAgainAfter, [this] { return is_written; });
      }
      is_last = is_written;
      const bool is_uncovered = durable->size() > published.head.size;
      const bool is_due = !to_sign.empty() || is_last || !status.ok() ||
                          Steady::now() - durable_since > kLongestUncovered;
      if (write_fault.ok() && is_uncovered && is_due) at = durable;
      if (at != nullptr) {
        std::erase_if(to_sign,
                      [](const WaitingPtr& each) { return each->is_answered; });
        waiting.swap(to_sign);
      }
    }
    if (at != nullptr) {
      status = SignAndPublish(*at);
      std::vector<std::pair<WaitingPtr, absl::StatusOr<Receipt>>> answers;
      if (status.ok()) {
        for (const WaitingPtr& each : waiting) {
          answers.emplace_back(each, MakeReceipt(*at, *each));
        }
      } else {
        const std::lock_guard lock(mutex);
        to_sign.insert(to_sign.end(), waiting.begin(), waiting.end());
      }
      Answer(answers);
      SetFault(&Impl::sign_fault, status);
    }
    if (is_last) return;
  }
}

absl::Status Log::Impl::SignAndPublish(const LogTree& at) {
  ASSIGN_OR_RETURN(const TreeHead head, at.Head());
  Proof proof;
  if (signer->last().has_value()) {
    ASSIGN_OR_RETURN(
        proof, BuildConsistencyProof(at, signer->last()->head.size, head.size));
  }
  ASSIGN_OR_RETURN(SignedCheckpoint made,
                   signer->Sign(head, proof, absl::Now() + options.timeout));
  // The record is what counts after a crash; this file is for readers.
  RETURN_IF_ERROR(
      writer.Replace(kCheckpointFile, AsBytes(made.note), /*durable=*/false));
  const std::lock_guard lock(mutex);
  published = std::move(made);
  durable_since = Steady::now();
  return absl::OkStatus();
}

absl::StatusOr<Receipt> Log::Impl::MakeReceipt(const LogTree& at,
                                               const Waiting& waiting) const {
  Receipt receipt;
  receipt.index = waiting.index;
  receipt.entry = waiting.entry;
  ASSIGN_OR_RETURN(receipt.proof,
                   BuildInclusionProof(at, waiting.index, at.size()));
  receipt.checkpoint = signer->last()->note;
  return receipt;
}

// --------------------------------------------------------------------- Log

absl::StatusOr<std::unique_ptr<Log>> Log::Open(const LogOptions& options,
                                               NoteKey key, DigestSigner sign) {
  LogOptions own = options;
  while (own.path.size() > 1 && own.path.ends_with('/')) own.path.pop_back();
  if (own.record.empty()) own.record = own.path + ".signed";
  if (mkdir(own.path.c_str(), kLogFolderMode) == 0) {
    FlushFolder(std::filesystem::path(own.path).parent_path().string());
  } else if (errno != EEXIST) {
    return FileError(errno, v1::STAGE_AUDIT, "create", own.path);
  }
  ASSIGN_OR_RETURN(std::shared_ptr<LogFolder> folder,
                   LogFolder::Open(own.path));
  const bool is_new = !folder->Has(kCheckpointFile) &&
                      !folder->Has(kGrowingFile) && !folder->Has("tile");
  auto signer = CheckpointSigner::Open(own.record, std::move(key),
                                       std::move(sign), is_new);
  if (!signer.ok()) {
    if (GetReason(signer.status()) != v1::REASON_FILE_NOT_FOUND) {
      return signer.status();
    }
    return AuditInconsistent("the log " + own.path +
                             " has entries, but there is no record of what "
                             "was signed, " +
                             own.record);
  }
  const auto impl =
      std::make_shared<Impl>(own, std::move(folder), *std::move(signer));
  RETURN_IF_ERROR(impl->Load());
  impl->Start(impl);
  return std::unique_ptr<Log>(new Log(impl));
}

Log::~Log() {
  std::unique_lock lock(impl_->mutex);
  impl_->is_stopping = true;
  impl_->work.notify_all();
  impl_->expire.notify_all();
  const auto patience = 2 * absl::ToChronoNanoseconds(impl_->options.timeout) +
                        std::chrono::seconds(1);
  // Its lock goes now, not when the last thread has let go of the rest.
  if (impl_->ended.wait_for(lock, patience,
                            [this] { return impl_->running_count == 0; })) {
    impl_->signer.reset();
  }
}

void Log::Append(Bytes entry, const AppendOptions& options, Done done) {
  auto waiting = std::make_shared<Impl::Waiting>();
  waiting->wants_receipt = options.wants_receipt;
  waiting->concludes = options.may_use_reserve;
  const auto refuse = [&](const absl::Status& status) { done(status); };
  if (entry.empty() || entry.size() > kMaxEntrySize) {
    return refuse(MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_AUDIT,
                            v1::REASON_BAD_AUDIT_LOG,
                            "an entry has 1 to 65535 bytes"));
  }
  waiting->entry = std::move(entry);
  const absl::Duration patience =
      std::min(impl_->options.timeout, options.deadline - absl::Now());
  absl::Status refusal;
  {
    const std::lock_guard lock(impl_->mutex);
    if (impl_->is_stopping) {
      refusal = Unavailable("the audit log is being closed");
    } else if (!impl_->write_fault.ok()) {
      refusal = ForCaller(impl_->write_fault);
    } else if (!impl_->sign_fault.ok() && !options.may_use_reserve) {
      refusal = ForCaller(impl_->sign_fault);
    } else if (impl_->is_space_low && !options.may_use_reserve) {
      refusal = Unavailable(
          "the audit log takes no entries: its disk has less than the reserve");
    } else if (impl_->by_deadline.size() >= impl_->options.max_waiting) {
      refusal = Unavailable("too many entries wait for the audit log");
    } else {
      waiting->done = std::move(done);
      impl_->by_deadline.emplace(
          Steady::now() + absl::ToChronoNanoseconds(patience), waiting);
      impl_->to_write.push_back(std::move(waiting));
      impl_->work.notify_one();
      impl_->expire.notify_one();
    }
  }
  if (!refusal.ok()) refuse(refusal);
}

absl::StatusOr<Receipt> Log::Append(Bytes entry, const AppendOptions& options) {
  struct Slot {
    std::mutex mutex;
    std::condition_variable filled;
    std::optional<absl::StatusOr<Receipt>> result;
  };
  const auto slot = std::make_shared<Slot>();
  Append(std::move(entry), options, [slot](absl::StatusOr<Receipt> result) {
    const std::lock_guard lock(slot->mutex);
    slot->result = std::move(result);
    slot->filled.notify_one();
  });
  std::unique_lock lock(slot->mutex);
  slot->filled.wait(lock, [&] { return slot->result.has_value(); });
  return *std::move(slot->result);
}

absl::Status Log::fault() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->FaultLocked();
}

const NoteKey& Log::key() const { return impl_->key; }

uint64_t Log::size() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->durable->size();
}

std::string Log::checkpoint() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->published.note;
}

absl::StatusOr<std::shared_ptr<const LogTree>> Log::Impl::TreeOf(
    uint64_t size) const {
  const std::lock_guard lock(mutex);
  if (size <= durable->size()) return durable;
  return MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_AUDIT,
                   v1::REASON_AUDIT_NOT_FOUND,
                   "the log has " + std::to_string(durable->size()) +
                       " entries, not " + std::to_string(size));
}

absl::StatusOr<Proof> Log::ProveInclusion(uint64_t index, uint64_t size) const {
  ASSIGN_OR_RETURN(const std::shared_ptr<const LogTree> tree,
                   impl_->TreeOf(size));
  return BuildInclusionProof(*tree, index, size);
}

absl::StatusOr<Proof> Log::ProveConsistency(uint64_t old_size,
                                            uint64_t size) const {
  ASSIGN_OR_RETURN(const std::shared_ptr<const LogTree> tree,
                   impl_->TreeOf(size));
  return BuildConsistencyProof(*tree, old_size, size);
}

absl::StatusOr<std::vector<Bytes>> Log::ReadEntries(uint64_t begin,
                                                    size_t max_count) const {
  const uint64_t bundle_index = begin / kTileWidth;
  Bytes bundle;
  uint64_t size = 0;
  {
    const std::lock_guard lock(impl_->mutex);
    size = impl_->durable->size();
    if (bundle_index == impl_->bundle_count) bundle = impl_->growing;
  }
  std::vector<Bytes> entries;
  if (begin >= size) return entries;
  if (bundle.empty()) {
    ASSIGN_OR_RETURN(bundle, impl_->folder->ReadBundle(bundle_index));
  }
  const std::vector<ByteView> all = ParseWholeEntries(bundle);
  for (uint64_t i = begin % kTileWidth;
       i < all.size() && entries.size() < max_count &&
       bundle_index * kTileWidth + i < size;
       ++i) {
    entries.push_back(ToBytes(all[i]));
  }
  return entries;
}

}  // namespace codeseal::audit
